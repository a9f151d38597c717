"""Example of a comparison as `compare` writes it, with playable videos."""

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from mobius_pipeline.comparison.model import (
    Change,
    Column,
    Comparison,
    Data,
    Fairness,
    HalfIntervals,
    LeftOut,
    Point,
    Points,
    Provenance,
    RealVideo,
    References,
    SampleVideo,
    Start,
)
from mobius_pipeline.comparison.summary import relative_percent
from mobius_pipeline.comparison.verdict import verdict
from mobius_pipeline.evaluation.scores import Quality
from mobius_pipeline.models.variant import Mode
from mobius_pipeline.training.metrics import Curves, Memory

MODES = ("serial", "parallel")
PROMPTS = (
    "a red circle falling",
    "a blue ring growing",
    'a green <b>square</b> & a "quote"',
    "no real clip",
)
GIB = 2**30
DATA = Data(
    clips=252,
    train=210,
    heldout=36,
    quarantined=6,
    digest="ab12" * 16,
    left_out=[
        LeftOut(
            label="rejected",
            required="a readable file",
            clips=4,
            kept=False,
            observed="a.mp4: the file is empty (0 bytes); sub/b.mp4: cut off, only 45 frames",
        ),
        LeftOut(
            label="too little motion", required="at least 1.5", clips=2, kept=False, observed="0 to 1.25"
        ),
        LeftOut(label="flickers", required="", clips=1, kept=True, observed=""),
    ],
)


def write_video(path: Path, red: int) -> None:
    """Write 8 frames of 64 x 64 px: a square that moves right."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(8))
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for index in range(8):
            frame = np.full((64, 64, 3), 235, np.uint8)
            frame[20:44, 4 + 5 * index : 24 + 5 * index] = (red, 90, 200)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode())


def quality(match: float | None, motion: float | None) -> Quality:
    return Quality(
        prompt_match=match, colour=0.9, shape=0.8, motion=motion,
        frechet=12.34, frechet_real=3.21, frechet_videos=4, frechet_extractor="vae-spacetime-pool",
        flicker=0.0123, dynamic_degree=0.0456,
    )  # fmt: skip


def history(seconds: float, end: float, steps: int = 400) -> Curves:
    noise = np.random.default_rng(0).normal(0, 0.03, steps)
    decay = [end + (0.2612 - end) * math.exp(-6 * step / steps) for step in range(steps)]
    return Curves(
        loss=[(step, decay[step] + noise[step], step * seconds) for step in range(steps)],
        heldout=[(step, decay[min(step, steps - 1)], step * seconds) for step in range(0, steps + 1, 50)],
    )


def column(mode: Mode, memory: float, step: float, loss: float, **changes: Any) -> Column:
    parts = {"weights": 0.12, "gradients": 0.09, "optimizer": 0.18, "other": 0.02}
    known = {part: int(share * GIB) for part, share in parts.items()}
    figures: dict[str, Any] = {
        "mode": mode, "train_head": False, "schedule": "constant_with_warmup",
        "seeds": [0], "run_ids": [f"{mode}-run"],
        "trainable_parameters": 4_210_000, "total_parameters": 11_900_000,
        "peak_memory_bytes": int(memory * GIB),
        "memory_breakdown_bytes": Memory(**known, activations=int(memory * GIB) - sum(known.values())),
        "step_s": step, "step_s_iqr": (step * 0.96, step * 1.07), "training_step_s": step * 1.01,
        "training_s": step * 400, "data_s": 0.001,
        "ci95_half": HalfIntervals(heldout_loss=None, training_s=None),
        "frames_per_s": 64 / step, "flops_per_step": 2.1e11, "steps": 400,
        "heldout_loss": loss, "heldout_loss_start": 0.2612,
        "heldout_loss_by_timestep": {"0-249": loss * 2, "250-499": loss, "500-999": loss / 2},
        "quality": quality(0.72 if mode == "serial" else 0.69, 0.8), "history": history(step, loss),
        "watched": 36,
        "samples": [
            SampleVideo(
                prompt=prompt, seed=100 + i, clip=f"clips/{i:03}.mp4" if i < 3 else None,
                mp4=f"{mode}/{i:03}.mp4", gif=f"{mode}/{i:03}.gif",
            )
            for i, prompt in enumerate(PROMPTS)
        ],
    }  # fmt: skip
    return Column(**figures | changes)


def change(percent: float, low: float | None, high: float | None, pairs: int = 36) -> Change:
    return Change(percent=percent, low=low, high=high, pairs=pairs, over="clips")


def comparison() -> Comparison:
    """Serial against parallel."""
    columns = {
        "serial": column("serial", 2.08, 0.412, 0.2214),
        "parallel": column("parallel", 1.23, 0.287, 0.2241),
    }
    pages = {"serial-run": "http://127.0.0.1:5000/#/experiments/1/runs/serial-run", "parallel-run": None}
    return compared(columns, change(1.2, 0.4, 2.0), run_pages=pages)


def several() -> Comparison:
    """Return a comparison with as many columns as fit: the ladder's widths, one with three seeds."""
    columns = {
        "serial": column("serial", 2.08, 0.412, 0.2214),
        "parallel (width 1.0)": column("parallel", 1.23, 0.287, 0.2241),
    }
    special: dict[float, dict[str, Any]] = {
        0.5: {
            "seeds": [0, 1, 2],
            "run_ids": ["a", "b", "c"],
            "ci95_half": HalfIntervals(heldout_loss=0.0031, training_s=4.0),
        },
        0.25: {"samples": []},  # sampled with other prompts
    }
    for index, width in enumerate((0.75, 0.5, 0.375, 0.25, 0.125, 0.0625)):
        columns[f"parallel (width {width})"] = column(
            "parallel", 1.2 - 0.1 * index, 0.28, 0.23 + 0.004 * index, **special.get(width, {})
        )
    note = "Step times are those of each training itself, because two is more."
    return compared(columns, change(1.2, 0.4, 2.0), paired_step_times=False, timing_note=note)


def compared(columns: dict[str, Column], against: Change, **changes: Any) -> Comparison:
    """Return a comparison of the columns, whose losses all differ by `against` from those of the first."""
    _, *others = columns
    parts: dict[str, Any] = {
        "start": Start(heldout_loss=0.2612),
        "heldout_change": dict.fromkeys(columns, change(-15.2, -16.9, -13.5)),
        "points": points(columns, dict.fromkeys(others, against)),
        "columns": columns,
        "paired_step_times": True,
        "timing_note": "",
        "references": References(
            real=quality(0.98, 0.99), still=quality(0.1, 0.1), random=quality(0.03, 0.2)
        ),
        "data": DATA,
        "fairness": Fairness(**dict.fromkeys(Fairness.model_fields, True)),
        "provenance": Provenance(
            git="0123456789abcdef", experiment="sample clips", device="CPU (2 cores)", torch="2.13.0",
            created="2026-11-22T21:00:00+00:00", python="3.11.9",
        ),
        "real": [
            RealVideo(prompt=prompt, mp4=f"real/{i:03}.mp4" if i < 3 else None)
            for i, prompt in enumerate(PROMPTS)
        ],
        "run_pages": {run: None for one in columns.values() for run in one.run_ids},
        "relative_percent": {}, "verdict": "",  # computed later
    }  # fmt: skip
    return concluded(Comparison(**parts | changes))


def points(columns: dict[str, Column], against: dict[str, Change]) -> Points:
    """Return the comparison of the columns after equal steps, with their different times."""
    point = Point(
        steps=dict.fromkeys(columns, 400),
        seconds={label: one.training_s for label, one in columns.items()},
        flops=dict.fromkeys(columns, 8.4e13),
        losses={label: one.heldout_loss for label, one in columns.items()},
        ci95_half={label: one.ci95_half.heldout_loss for label, one in columns.items()},
        against=against,
    )
    return Points(steps=point, compute=point, time=point)


def changed(example: Comparison, *place: str, **values: Any) -> Comparison:
    """Return the comparison with changed values at `place`, a path of field names or keys."""
    document = example.model_dump()
    part = document
    for name in place:
        part = part[name]
    assert values.keys() <= part.keys()
    part.update(values)
    return concluded(Comparison(**document))


def concluded(example: Comparison) -> Comparison:
    """Return the comparison with the relative changes and the verdict computed from its figures."""
    first, *others = example.columns.values()
    relative = {
        label: relative_percent(first, other, example.points, label)
        for label, other in zip(example.others, others, strict=True)
    }
    found = example.model_copy(update={"relative_percent": relative})
    return found.model_copy(update={"verdict": verdict(found)})


def write_media(root: Path) -> Path:
    for index in range(len(PROMPTS)):
        for place, name in enumerate(("real", *MODES)):
            write_video(root / name / f"{index:03}.mp4", red=80 * place)
    return root
