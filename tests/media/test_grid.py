"""Videos in one picture."""

import numpy as np

from mobius_pipeline.media.grid import GAP, grid


def test_a_row_a_video_and_its_frames_from_left_to_right() -> None:
    videos = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 6, 3), dtype=np.uint8)
    picture = grid(list(videos))
    assert picture.shape == (2 * 4 + GAP, 3 * 6 + 2 * GAP, 3)
    for row, video in enumerate(videos):
        for column, frame in enumerate(video):
            top, left = row * (4 + GAP), column * (6 + GAP)
            assert (picture[top : top + 4, left : left + 6] == frame).all()
    assert len(np.unique(picture[4 : 4 + GAP])) == 1
