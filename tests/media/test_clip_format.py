"""The bucket that a clip is assigned to."""

import pytest

from mobius_pipeline.media.clip_format import ClipFormat, ClipSize

SQUARE = {"frames": 8, "height": 32, "width": 32}
WIDE = {"frames": 8, "height": 24, "width": 40}
LONG = {"frames": 16, "height": 32, "width": 32}
LARGE = {"frames": 8, "height": 64, "width": 64}
FORMAT = ClipFormat(**SQUARE, fps=8, buckets=(WIDE, LONG, LARGE))


@pytest.mark.parametrize(
    ("clip", "bucket"),
    [
        ((8, 48, 48), SQUARE),  # large enough, but for the large one
        ((15, 48, 48), SQUARE),  # one frame less than the long one needs
        ((16, 48, 48), LONG),
        ((9, 128, 128), LARGE),
        ((20, 128, 128), LONG),  # more frames before more pixels
        ((40, 90, 160), WIDE),
        ((40, 30, 50), WIDE),
        ((8, 16, 16), LARGE),  # upscaled in all of them
        ((7, 48, 48), None),
    ],
)
def test_the_bucket_that_suits_a_clip(clip: tuple[int, int, int], bucket: dict[str, int] | None) -> None:
    assert FORMAT.size_for(*clip) == (None if bucket is None else ClipSize(**bucket))


def test_a_stride_takes_every_so_manieth_frame() -> None:
    assert ClipFormat(**SQUARE, fps=8, stride=2).rate == 4
    sized = FORMAT.sized(ClipSize(**WIDE))
    assert (sized.frames, sized.height, sized.width, sized.rate) == (8, 24, 40, 8)
    assert sized.sizes == [ClipSize(**WIDE)]
