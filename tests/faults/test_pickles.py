"""Wherever a pickle that would run code can be supplied, its payload never runs."""

import json
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

import tiny
import training_example
from copies import copied
from ingested import ingested
from mobius_pipeline.base_model.check import check_base
from mobius_pipeline.ingest.config import IngestConfig
from mobius_pipeline.latents.shards import mapped
from mobius_pipeline.media.write import write_gif
from mobius_pipeline.models.factory import trainable_parameters
from mobius_pipeline.models.pretrained import build_from_base, load_trained, save_trained
from mobius_pipeline.runtime.errors import MobiusError
from mobius_pipeline.runtime.files import sha256, write_json
from mobius_pipeline.training.checkpoints import newest_checkpoint, save_checkpoint

INGEST = IngestConfig(heldout_share=0.5, files_per_batch=4)
UNET = "unet/diffusion_pytorch_model"
VAE = "vae/diffusion_pytorch_model"
ENCODER = "text_encoder/model"


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.marker), "w"))


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "ran"


@pytest.fixture
def payload(marker: Path) -> bytes:
    """A pickle that creates the marker, which is demonstrated once."""
    data = pickle.dumps(Payload(marker))
    pickle.loads(data).close()
    marker.unlink()
    return data


@pytest.fixture
def archive(payload: bytes, marker: Path, tmp_path: Path) -> bytes:
    """The same pickle in the format of torch."""
    torch.save(Payload(marker), tmp_path / "archive")
    torch.load(tmp_path / "archive", weights_only=False).close()
    marker.unlink()
    return (tmp_path / "archive").read_bytes()


@pytest.fixture
def base(tiny_base: Path, tmp_path: Path) -> Path:
    return copied(tiny_base, tmp_path / "base")


@pytest.mark.parametrize("stem", [UNET, VAE, ENCODER])
@pytest.mark.parametrize("suffix", [".bin", ".pt", ".ckpt"])
def test_a_base_of_pickles_is_refused(
    stem: str, suffix: str, base: Path, archive: bytes, marker: Path
) -> None:
    (base / f"{stem}.safetensors").unlink()
    (base / f"{stem}{suffix}").write_bytes(archive)
    with pytest.raises(MobiusError, match="is a pickle, which can run code and is not opened"):
        check_base(base)
    assert not marker.exists()


@pytest.mark.parametrize("stem", [UNET, VAE, ENCODER])
@pytest.mark.parametrize("kind", ["payload", "archive"])
def test_a_pickle_by_the_name_of_safetensors_is_refused(
    stem: str, kind: str, base: Path, marker: Path, request: pytest.FixtureRequest
) -> None:
    (base / f"{stem}.safetensors").unlink()
    (base / f"{stem}.safetensors").write_bytes(request.getfixturevalue(kind))
    with pytest.raises(MobiusError, match=f"Cannot load {base / stem.split('/')[0]}"):
        check_base(base)
    assert not marker.exists()


def test_pickles_and_code_beside_the_weights_are_not_opened(
    base: Path, payload: bytes, archive: bytes, marker: Path
) -> None:
    code = f"open({str(marker)!r}, 'w')\n\nclass Evil: ...\n"
    for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        for name in ("diffusion_pytorch_model.bin", "pytorch_model.bin", "model.pt", "optimizer.pt"):
            (base / part / name).write_bytes(archive)
        (base / part / "training_args.pkl").write_bytes(payload)
        (base / part / "evil.py").write_text(code)
    (base / "pipeline.py").write_text(code)
    for name, kind in {
        "tokenizer/tokenizer_config.json": "Tokenizer",
        "text_encoder/config.json": "Model",
    }.items():
        config = json.loads((base / name).read_text())
        auto_map = {f"Auto{kind}": ["evil.Evil", None] if kind == "Tokenizer" else "evil.Evil"}
        write_json(base / name, {**config, "auto_map": auto_map})
    check_base(base)
    assert not marker.exists()


def checkpoint(folder: Path, step: int) -> Path:
    tensors = {"weight": torch.full((4,), float(step))}
    return save_checkpoint(folder, training_example.checkpoint(step, tensors), keep_last=3)


@pytest.mark.parametrize("name", ["state.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("signed", [True, False])
def test_a_pickle_as_checkpoint_does_not_run(
    name: str, signed: bool, payload: bytes, marker: Path, tmp_path: Path
) -> None:
    """Even where the manifest was made to agree with it."""
    checkpoint(tmp_path / "state", 1)
    newest = checkpoint(tmp_path / "state", 2)
    (newest / name).write_bytes(payload)
    if signed and name != "manifest.json":
        sums = {one: sha256(newest / one) for one in ("state.safetensors", "state.json")}
        write_json(newest / "manifest.json", sums)
    with suppress(Exception):
        found = newest_checkpoint(tmp_path / "state")
        assert found is None or found.step == 1
    assert not marker.exists()


def test_pickles_beside_a_checkpoint_are_not_opened(
    payload: bytes, archive: bytes, marker: Path, tmp_path: Path
) -> None:
    newest = checkpoint(tmp_path / "state", 1)
    for name in ("optimizer.bin", "optimizer.pt", "scheduler.bin", "random_states_0.pkl", "rng_state.pth"):
        (newest / name).write_bytes(payload if name.endswith("pkl") else archive)
    found = newest_checkpoint(tmp_path / "state")
    assert found is not None
    assert found.step == 1
    assert not marker.exists()


def test_a_pickle_as_trained_model_is_refused(
    tiny_base: Path, archive: bytes, marker: Path, tmp_path: Path
) -> None:
    model = build_from_base(tiny.variant("parallel"), tiny_base, seed=0)
    assert trainable_parameters(model)
    save_trained(model, tmp_path / "model", tiny_base)
    (weights,) = (tmp_path / "model").glob("*.safetensors")
    weights.write_bytes(archive)
    with pytest.raises(MobiusError, match="Cannot read"):
        load_trained(tmp_path / "model", tiny_base)
    assert not marker.exists()


def test_a_pickle_as_shard_does_not_run(payload: bytes, marker: Path, tmp_path: Path) -> None:
    """Even if its name agrees with its bytes."""
    (tmp_path / "shard").write_bytes(payload)
    shard = (tmp_path / "shard").rename(tmp_path / f"shard-{sha256(tmp_path / 'shard')[:20]}.safetensors")
    with suppress(Exception):
        mapped(shard)
    assert not marker.exists()


def with_pickled_extension(path: Path, payload: bytes) -> None:
    """A table whose column has the type that older versions of Arrow unpickled."""
    about = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": payload}
    schema = pa.schema([pa.field("file", pa.string()), pa.field("caption", pa.string(), metadata=about)])
    parquet.write_table(pa.table([["clip.gif"], ["a clip"]], schema=schema), path)


def with_pickled_values(path: Path, payload: bytes) -> None:
    """A table whose cells are pickles, and whose metadata name them as pandas' objects."""
    about = {b"pandas": json.dumps({"columns": [{"name": "caption", "pandas_type": "object"}]}).encode()}
    table = pa.table({"file": ["clip.gif"], "caption": pa.array([payload], pa.binary())})
    parquet.write_table(table.replace_schema_metadata(about), path)


TABLES: dict[str, Callable[[Path, bytes], Any]] = {
    "captions.parquet": Path.write_bytes,
    "captions.csv": Path.write_bytes,
    "captions.jsonl": Path.write_bytes,
    "extension/captions.parquet": with_pickled_extension,
    "values/captions.parquet": with_pickled_values,
}


@pytest.mark.parametrize("table", TABLES)
def test_a_pickle_as_table_does_not_run(table: str, payload: bytes, marker: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    write_gif(folder / "clip.gif", torch.randint(0, 256, (4, 16, 16, 3), dtype=torch.uint8).numpy(), 8)
    TABLES[table](folder / Path(table).name, payload)
    with suppress(MobiusError):  # a file that is not a table is refused; strange columns do no harm
        rows = ingested(folder, INGEST, tiny.CLIP, tmp_path / "work")
        assert list(rows["path"]) == ["clip.gif"]
    assert not marker.exists()
