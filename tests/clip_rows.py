"""Rows of the table of clips, as `ingest` writes them."""

from typing import Any


def clip_row(number: int, **changes: Any) -> dict[str, Any]:
    row = {
        "clip_id": f"id{number}",
        "source": f"sub folder/clip é{number}.mp4",
        "source_sha256": f"source{number}",
        "path": f"sub folder/clip é{number}.mp4",
        "caption": "a red ball",
        "captions": ["a red ball"],
        "group": "",
        "start_frame": 0,
        "end_frame": 12,
        "frames": 12,
        "model_frames": 8,
        "width": 64,
        "height": 48,
        "fps": 12.0,
        "duration_s": 1.0,
        "container": "mov",
        "codec": "h264",
        "bytes": 999,
        "motion": 4.0,
        "static_share": 0.0,
        "black_share": 0.0,
        "flicker": 0.5,
        "aspect": 4 / 3,
        "words": 3,
        "likeness": f"{number:02x}" * 24,
        "split": "heldout" if number % 4 == 0 else "train",
        "status": "ok",
        "reason": "",
    }
    return row | changes


def rejected_row(number: int) -> dict[str, Any]:
    known = {"path": f"bad{number}.mp4", "status": "rejected", "reason": "not a video", "split": "train"}
    return (
        dict.fromkeys(clip_row(0)) | {"clip_id": f"bad{number}", "source_sha256": "", "caption": ""} | known
    )
