"""What the plan says of a cost."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from mobius_pipeline.base_model.unet_config import latent_scale
from mobius_pipeline.planning.predict import Cost, StepShape
from mobius_pipeline.planning.report import lever_table, plan_report, plan_table, smallest_fit
from mobius_pipeline.runtime.errors import MobiusError

GIB = 2**30


def cost(peak_gib: int) -> Cost:
    breakdown = {"weights": GIB, "gradients": 0, "optimizer": 0, "other": 0}
    return Cost(
        1000, 400, GIB, peak_gib * GIB, {**breakdown, "activations": (peak_gib - 1) * GIB}, peak_gib * 1e12
    )


def test_the_reserve_counts() -> None:
    assert smallest_fit(7 * GIB, (8, 12), reserve_gib=1) == 8
    assert smallest_fit(7 * GIB + 1, (12, 8), reserve_gib=1) == 12
    assert smallest_fit(12 * GIB, (8, 12), reserve_gib=1) is None


def test_report_is_json_and_compares() -> None:
    shape = StepShape(2, 8, 16, 16, 77)
    report = plan_report({"serial": cost(20), "parallel": cost(10)}, shape, (8, 16), 1.0)
    assert json.loads(json.dumps(report)) == report
    assert report["parallel_over_serial"] == {"peak": 0.5, "flops": 0.5, "trainable": 1.0}
    assert report["modes"]["serial"]["fits_gib"] == {"8": False, "16": False}
    assert report["modes"]["parallel"]["fits_gib"] == {"8": False, "16": True}


def test_table_shows_both_modes() -> None:
    shape = StepShape(2, 8, 16, 16, 77)
    console = Console(width=100, record=True, quiet=False)
    with console.capture() as capture:
        report = plan_report({"serial": cost(20), "parallel": cost(10)}, shape, (8, 16), 1.0)
        console.print(plan_table(report))
    text = capture.get()
    for words in ("20.00 GiB", "10.00 GiB", "50%", "not even 16 GiB", "16 GiB or more"):
        assert words in text


def test_levers_fit_a_narrow_terminal() -> None:
    modes = {"serial": cost(20), "parallel": cost(10)}
    report = plan_report(modes, StepShape(2, 8, 16, 16, 77), (8, 16), 1.0)
    lever = {**report["modes"]["serial"], "activation_bytes": 19 * GIB, "smallest_fit_gib": None}
    console = Console(width=80)
    with console.capture() as capture:
        console.print(lever_table({**report, "levers": {"parallel checkpoint_temporal, half width": lever}}))
    assert "…" not in capture.get()
    assert "20.00" in capture.get()


def test_a_missing_base_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MobiusError, match="pipelines=base"):
        latent_scale(tmp_path)
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae/config.json").write_text("[1]")
    with pytest.raises(MobiusError, match="no JSON object"):
        latent_scale(tmp_path)


def test_scale_of_a_latent_cell(tmp_path: Path) -> None:
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae/config.json").write_text(json.dumps({"block_out_channels": [128, 256, 512, 512]}))
    assert latent_scale(tmp_path) == 8
