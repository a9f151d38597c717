"""Text encoding, which must be the same in training and sampling."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def encode_text(tokenizer: Any, encoder: Any, captions: Sequence[str]) -> Tensor:
    """Encode captions, truncated or padded to the tokenizer's `model_max_length` L: (N, L, D).

    As in diffusers' StableDiffusionPipeline, CLIP attends to padding; encoders that ask for a mask get one.
    """
    tokens = tokenizer(
        list(captions),
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).to(encoder.device)
    mask = tokens.attention_mask if getattr(encoder.config, "use_attention_mask", False) else None
    embeddings: Tensor = encoder(tokens.input_ids, attention_mask=mask).last_hidden_state
    return embeddings
