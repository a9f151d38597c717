"""A comparison.json as `compare` writes it, with videos that really play."""

import copy
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

MODES = ("serial", "parallel")
PROMPTS = (
    "a red circle falling",
    "a blue ring growing",
    'a green <b>square</b> & a "quote"',
    "no real clip",
)
GIB = 2**30


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


def quality(match: float | None, motion: float) -> dict[str, float | None]:
    return {
        "prompt_match": match, "colour": 0.9, "shape": 0.8, "motion": motion,
        "frechet": 12.34, "flicker": 0.0123, "dynamic_degree": 0.0456,
    }  # fmt: skip


def history(seconds: float, end: float, steps: int = 400) -> dict[str, list[list[float]]]:
    noise = np.random.default_rng(0).normal(0, 0.03, steps)
    decay = [end + (0.2612 - end) * math.exp(-6 * step / steps) for step in range(steps)]
    loss = [[step, decay[step] + noise[step], step * seconds] for step in range(steps)]
    held_out = [[step, decay[min(step, steps - 1)], step * seconds] for step in range(0, steps + 1, 50)]
    return {"loss": loss, "heldout": held_out}


def mode(name: str, memory: float, step: float, loss: float) -> dict[str, Any]:
    parts = {"weights": 0.12, "gradients": 0.09, "optimizer": 0.18, "other": 0.02}
    breakdown = {part: int(share * GIB) for part, share in parts.items()}
    breakdown["activations"] = int(memory * GIB) - sum(breakdown.values())
    return {
        "mode": name, "train_head": False, "schedule": "constant_with_warmup",
        "seeds": [0], "run_ids": [f"{name}-run"],
        "trainable_parameters": 4_210_000, "total_parameters": 11_900_000,
        "peak_memory_bytes": int(memory * GIB), "memory_breakdown_bytes": breakdown,
        "step_s": step, "step_s_iqr": [step * 0.96, step * 1.07], "training_s": step * 400,
        "beside": {"heldout_loss": None, "training_s": None},
        "frames_per_s": 64 / step, "flops_per_step": 2.1e11, "steps": 400,
        "heldout_loss": loss, "heldout_loss_start": 0.2612,
        "heldout_loss_by_timestep": {"0-249": loss * 2, "250-499": loss, "500-999": loss / 2},
        "quality": quality(0.72 if name == "serial" else 0.69, 0.8), "history": history(step, loss),
        "watched": 36,
        "samples": [
            {"prompt": prompt, "seed": 100 + i, "mp4": f"{name}/{i:03}.mp4", "gif": f"{name}/{i:03}.gif"}
            for i, prompt in enumerate(PROMPTS)
        ],
    }  # fmt: skip


def comparison() -> dict[str, Any]:
    from mobius_pipeline.comparison import verdict

    modes = {"serial": mode("serial", 2.08, 0.412, 0.2214), "parallel": mode("parallel", 1.23, 0.287, 0.2241)}
    reals = [{"prompt": p, "mp4": f"real/{i:03}.mp4" if i < 3 else None} for i, p in enumerate(PROMPTS)]
    example: dict[str, Any] = {
        "start": {"heldout_loss": 0.2612}, "columns": modes, "real": reals,
        "paired_step_times": True, "timing_note": "",
        "run_pages": {"serial-run": "http://127.0.0.1:5000/#/experiments/1/runs/serial-run",
                      "parallel-run": None},
        "heldout_change": {
            "serial": {"percent": -15.2, "low": -16.9, "high": -13.5, "pairs": 36, "over": "clips"},
            "parallel": {"percent": -14.2, "low": -16.0, "high": -12.4, "pairs": 36, "over": "clips"}},
        "points": points(modes, {
            "parallel": {"percent": 1.2, "low": 0.4, "high": 2.0, "pairs": 36, "over": "clips"}}),
        "references": {"real": quality(0.98, 0.99), "still": quality(0.1, 0.1), "random": quality(0.03, 0.2)},
        "data": {"clips": 252, "train": 210, "heldout": 36, "quarantined": 6, "digest": "ab12" * 16,
                 "left_out": [
                     {"label": "rejected", "required": "a readable file", "clips": 4, "kept": False,
                      "observed": "a.mp4: the file is empty (0 bytes); sub/b.mp4: cut off, only 45 frames"},
                     {"label": "too little motion", "required": "at least 1.5", "clips": 2, "kept": False,
                      "observed": "0 to 1.25"},
                     {"label": "flickers", "required": "", "clips": 1, "kept": True,
                      "observed": ""}]},
        "fairness": {f"same_{x}": True for x in ("base", "data", "draws", "steps", "optimizer", "precision")},
        "provenance": {"git": "0123456789abcdef", "experiment": "sample clips", "device": "CPU (2 cores)",
                       "torch": "2.13.0", "created": "2026-11-22T21:00:00+00:00", "python": "3.11.9"},
    }  # fmt: skip
    example["relative_percent"] = relative(example)
    return {**example, "verdict": verdict.verdict(example)}


def points(columns: dict[str, Any], against: dict[str, Any]) -> dict[str, Any]:
    """The columns compared after the same steps, which took each its time."""
    point = {
        "steps": dict.fromkeys(columns, 400),
        "seconds": {label: column["training_s"] for label, column in columns.items()},
        "flops": dict.fromkeys(columns, 8.4e13),
        "losses": {label: column["heldout_loss"] for label, column in columns.items()},
        "beside": {label: column["beside"]["heldout_loss"] for label, column in columns.items()},
        "against": against,
    }
    return {name: copy.deepcopy(point) for name in ("steps", "compute", "time")}


def relative(example: dict[str, Any]) -> dict[str, Any]:
    from mobius_pipeline.comparison import summary

    first, *others = example["columns"]
    serial, reached = example["columns"][first], example["points"]
    return {
        label: summary.relative_percent(serial, example["columns"][label], reached, label) for label in others
    }


def several() -> dict[str, Any]:
    """The comparison with ladder widths as further columns, one of them of three seeds: as many as fit."""
    from mobius_pipeline.comparison import verdict

    example = comparison()
    serial, parallel = example["columns"].values()
    change = example["points"]["compute"]["against"]["parallel"]
    columns = {"serial": serial, "parallel (width 1.0)": parallel}
    for index, width in enumerate((0.75, 0.5, 0.375, 0.25, 0.125, 0.0625)):
        columns[f"parallel (width {width})"] = mode("parallel", 1.2 - 0.1 * index, 0.28, 0.23 + 0.004 * index)
    columns["parallel (width 0.5)"] |= {
        "seeds": [0, 1, 2], "run_ids": ["a", "b", "c"], "beside": {"heldout_loss": 0.0031, "training_s": 4.0},
    }  # fmt: skip
    columns["parallel (width 0.25)"]["samples"] = []  # sampled with other prompts
    example |= {
        "columns": columns,
        "run_pages": dict.fromkeys(run for column in columns.values() for run in column["run_ids"]),
        "heldout_change": dict.fromkeys(columns, example["heldout_change"]["serial"]),
        "points": points(columns, {label: change for label in columns if label != "serial"}),
        "paired_step_times": False,
        "timing_note": "Step times were measured in each training on its own, since two is more.",
    }
    example["relative_percent"] = relative(example)
    return {**example, "verdict": verdict.verdict(example)}


def write_media(root: Path) -> Path:
    for index in range(len(PROMPTS)):
        for place, name in enumerate(("real", *MODES)):
            write_video(root / name / f"{index:03}.mp4", red=80 * place)
    return root
