"""Latents and embeddings belong to the parts of a base that made them."""

from pathlib import Path

import pytest

from copies import copied
from mobius_pipeline.base_model.load import encoder_fingerprint


@pytest.mark.parametrize(
    ("part", "decides"), [("vae", True), ("text_encoder", True), ("tokenizer", True), ("unet", False)]
)
def test_the_encoder_s_fingerprint_follows_what_decides_the_latents(
    part: str, decides: bool, tiny_base: Path, tmp_path: Path
) -> None:
    other = copied(tiny_base, tmp_path / "base")
    file = min(path for path in (other / part).rglob("*") if path.is_file())
    file.write_bytes(file.read_bytes() + b" ")
    marks = [encoder_fingerprint(base, {"fps": 8}, 1) for base in (tiny_base, other)]
    assert (marks[0] != marks[1]) == decides


def test_the_encoder_s_fingerprint_follows_preprocessing_and_version(tiny_base: Path) -> None:
    marks = {encoder_fingerprint(tiny_base, {"fps": fps}, version) for fps in (8, 12) for version in (1, 2)}
    assert len(marks) == 4
