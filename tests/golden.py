"""Golden losses: the first 20 losses of both modes with the tiny model.

`python tests/golden.py` records those of this machine.

Run it only when an issue changes the losses on purpose, and say so in the change log.
"""

import json
import os
import platform
import tempfile
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # as in conftest.py

import torch

import tiny
from ingested import ingested
from mobius_pipeline.base_model.base_model import BaseModel
from mobius_pipeline.ingest.config import IngestConfig
from mobius_pipeline.latents.store import LatentsStore
from mobius_pipeline.latents.update import update_store
from mobius_pipeline.models.variant import Mode
from mobius_pipeline.sources.sample_clips import SampleClipsConfig, write_set
from mobius_pipeline.training.callbacks import Callbacks
from mobius_pipeline.training.train_mode import build_trainer

FILE = Path(__file__).parent / "training/golden_losses.json"
TOLERANCE = 2e-3  # between machines: kernels sum in different orders, and 20 steps amplify it
STEPS = 20

CLIPS = SampleClipsConfig(
    clips=24,
    seed=1,
    frame_rates=[8, 12],
    sizes=[(32, 32), (32, 48)],
    seconds=(1.0, 1.2),
    shape_size=(0.34, 0.40),
    workers=1,
)
INGEST = IngestConfig(heldout_share=0.25, files_per_batch=8)


def machine() -> str:
    """Return what determines the bits of sums: the processor, torch, and its threads."""
    cpu = {}
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
        cpu = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    known = [cpu.get(key, "?") for key in ("vendor_id", "cpu family", "model")]
    parts = [
        platform.machine(),
        *known,
        torch.backends.cpu.get_cpu_capability(),
        f"torch {torch.__version__}",
    ]
    return " ".join([*parts, f"{torch.get_num_threads()} threads"])


def losses(mode: Mode, store: Path, base: Path, folder: Path) -> list[float]:
    """Train 20 steps and return their losses."""
    config = tiny.train_config(steps=STEPS, evaluate_every=STEPS, checkpoint_every=STEPS)
    trainer = build_trainer(
        LatentsStore(store), BaseModel(base), tiny.variant(mode), config, folder, Callbacks()
    )
    trainer.train()
    return [loss for _, loss, _ in trainer.history.loss]


def main() -> None:
    """Record the losses of this machine in addition to those of others."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "clips").mkdir()
        write_set(folder / "clips", CLIPS)
        base = tiny.write_base(folder / "base")
        table = ingested(folder / "clips", INGEST, tiny.CLIP, folder / "work")
        update_store(
            folder / "latents",
            table,
            folder / "clips",
            BaseModel(base),
            tiny.CLIP,
            tiny.encode_config(),
        )
        found = {
            mode: losses(mode, folder / "latents", base, folder / mode) for mode in ("serial", "parallel")
        }
    stored = json.loads(FILE.read_text()) if FILE.is_file() else {"machines": {}}
    stored["machines"][machine()] = found
    FILE.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
