"""The result for a file does not depend on files that the process read before or reads meanwhile."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mobius_pipeline.media.decode import MediaError, open_media
from mobius_pipeline.media.write import write_gif
from mobius_pipeline.sources.scenes import Scene, render


def verdict(path: Path) -> str:
    """Return the number of frames, or the reason why there are none, without the file's name."""
    try:
        with open_media(path) as media:
            return f"{sum(1 for _ in media.frames)} frames"
    except MediaError as error:
        return str(error).removeprefix(f"{path.name}: ")


def verdicts(paths: Sequence[Path]) -> list[str]:
    return [verdict(path) for path in paths]


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """GIFs with one flipped bit each, many of which give the same line in FFmpeg's log, and an intact one."""
    folder = tmp_path_factory.mktemp("damaged")
    whole = folder / "whole.gif"
    scene = Scene("cross", "red", "diving", "grey")
    write_gif(whole, render(scene, times=[step / 12 for step in range(12)], height=64, width=64), 12.0)
    bytes_ = whole.read_bytes()
    paths = []
    for number, place in enumerate(range(len(bytes_) // 3, len(bytes_), len(bytes_) // 60)):
        flipped = bytearray(bytes_)
        flipped[place] ^= 0x10
        paths.append(folder / f"{number:02}.gif")
        paths[-1].write_bytes(flipped)
    return [*paths[:9], whole, *paths[9:]]


def test_order_and_repetition_change_no_verdict(damaged: list[Path]) -> None:
    once = verdicts(damaged)
    assert once[9] == "12 frames"
    refused = [said for said in once if said == "damaged (LZW decode failed)"]
    assert len(refused) >= 6  # the same line of file after file, which a log may leave out
    assert verdicts(damaged[::-1]) == once[::-1]
    twice = [path for path in damaged for _ in range(2)]
    assert verdicts(twice) == [said for said in once for _ in range(2)]


def test_threads_do_not_share_verdicts(damaged: list[Path]) -> None:
    once = verdicts(damaged)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(verdict, damaged * 4)) == once * 4
