"""Damaged clips are refused with a reason or give frames; with checksums, the right ones."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import fuzz
import numpy as np
import pytest

from media.counted import encode
from mobius_pipeline.media.decode import MediaError
from mobius_pipeline.media.write import write_gif, write_mp4, write_webm, write_webp
from mobius_pipeline.sources.scenes import Scene, render

# A format's damaged copies, in percent, that may give other frames or times without an error: a little more
# than was measured over 1,250 copies. APNG holds checksums, and so does Matroska as FFmpeg writes it. The
# others hold none: GIF's and WebP's codes make a picture of almost any bits, and only a checksum beside the
# file (`sha256` in a listing) can tell.
SILENT = {
    "h264.mp4": 3,
    "hevc.mkv": 0,
    "vp9.webm": 7,
    "av1.mkv": 0,
    "clip.gif": 15,
    "clip.webp": 8,
    "clip.apng": 0,
    "ffv1.mkv": 0,
}
FEW, MANY = 125, 1250  # copies of each: 1,000 and 10,000


@pytest.fixture(scope="module")
def wholes(processes: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wholes")
    scene = Scene("cross", "red", "diving", "grey")
    film = render(scene, times=[step / 12 for step in range(12)], height=64, width=64)
    write_mp4(folder / "h264.mp4", film, 12)
    write_webm(folder / "vp9.webm", film, 12)
    write_gif(folder / "clip.gif", film, 12)
    write_webp(folder / "clip.webp", film, 12)
    encode(folder / "hevc.mkv", film, codec="libx265", **{"x265-params": "log-level=none:pools=none"})
    # As root, SVT-AV1 gives its process, and all that this one starts, a real-time priority permanently.
    av1 = {"codec": "libsvtav1", "preset": "8"}
    encoder = processes.Process(target=encode, args=(folder / "av1.mkv", film), kwargs=av1)
    encoder.start()
    encoder.join()
    assert encoder.exitcode == 0
    encode(folder / "clip.apng", film, codec="apng", pix_fmt="rgb24")
    encode(folder / "ffv1.mkv", film, codec="ffv1", level="3", slicecrc="1")
    return folder


def ends_of(wholes: Path, folder: Path, copies: int) -> dict[str, dict[str, list[str]]]:
    """Return the results for the damaged copies of each file, read in a separate process."""
    for number, whole in enumerate(sorted(wholes.iterdir())):
        (folder / whole.name).mkdir()
        for seed in range(copies):
            data = fuzz.damaged(whole.read_bytes(), 1000 * number + seed)
            (folder / whole.name / f"{seed:03}{whole.suffix}").write_bytes(data)
    done = subprocess.run(
        [sys.executable, str(Path(fuzz.__file__)), str(wholes), str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    ends: dict[str, dict[str, list[str]]] = json.loads(done.stdout)
    return ends


@pytest.mark.parametrize("copies", [FEW, pytest.param(MANY, marks=pytest.mark.faults_slow)])
def test_a_damaged_clip_is_refused_or_gives_its_frames(copies: int, wholes: Path, tmp_path: Path) -> None:
    ends = ends_of(wholes, tmp_path, copies)
    assert sum(len(names) for of in ends.values() for names in of.values()) == len(SILENT) * copies
    counts = {name: {end: len(names) for end, names in of.items()} for name, of in ends.items()}
    print(counts)
    for name, most in SILENT.items():
        slack = 4 if most and copies == FEW else 0  # of few copies more may happen to be silent
        assert counts[name]["changed"] * 100 <= (most + slack) * copies, counts
        assert counts[name]["refused"] * 2 > copies, counts


def test_a_seed_always_does_the_same_damage() -> None:
    whole = bytes(np.random.default_rng(0).bytes(2000))
    copies = [fuzz.damaged(whole, seed) for seed in range(50)]
    assert copies == [fuzz.damaged(whole, seed) for seed in range(50)]
    assert len(set(copies)) >= 48


def test_an_apng_that_ends_between_two_chunks_is_cut_off(wholes: Path, tmp_path: Path) -> None:
    data = (wholes / "clip.apng").read_bytes()
    fifth = [found.start() - 4 for found in re.finditer(b"fcTL", data)][5]
    (tmp_path / "clip.apng").write_bytes(data[:fifth])
    with pytest.raises(MediaError, match="cut off, bytes are missing at its end"):
        fuzz.shown(tmp_path / "clip.apng")


def test_one_bit_of_a_frame_in_matroska_is_found(wholes: Path, tmp_path: Path) -> None:
    """HEVC's decoder accepts most bits; the cluster's checksum detects the change."""
    data = bytearray((wholes / "hevc.mkv").read_bytes())
    cluster, cues = data.rindex(b"\x1f\x43\xb6\x75"), data.rindex(b"\x1c\x53\xbb\x6b")
    said = set()
    for place in range(cluster + 50, cues, 10):
        data[place] ^= 1
        (tmp_path / "clip.mkv").write_bytes(data)
        with pytest.raises(MediaError) as error:
            fuzz.shown(tmp_path / "clip.mkv")
        said.add(str(error.value))
        data[place] ^= 1
    assert "clip.mkv: damaged: its bytes do not match its checksums" in said
