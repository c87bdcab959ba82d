"""Writes the golden checkpoints (random weights from fixed seeds) and the logits that transformers computes for them.

    python -m tools.golden.make_logits

float32 on one thread, eager attention, no cache.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch
import transformers

from tools.golden.checkpoints import CHECKPOINTS, LENGTHS, Checkpoint

WEIGHT_SPREAD = 0.45  # large enough that attention is far from uniform
VECTOR_SPREAD = 0.3


def main() -> None:
    torch.set_num_threads(1)
    for checkpoint in CHECKPOINTS:
        make(checkpoint)
        print(checkpoint.name, sorted(p.name for p in checkpoint.folder.iterdir()))


def make(checkpoint: Checkpoint) -> None:
    """One folder: config.json, model.safetensors, expected.npz (ids and logits per sequence)."""
    seed = zlib.crc32(checkpoint.name.encode())
    config = getattr(transformers, checkpoint.config_class)(**checkpoint.values)
    config._attn_implementation = "eager"
    model = getattr(transformers, checkpoint.model_class)(config).float().eval()
    randomize(model, seed)
    model.save_pretrained(checkpoint.folder)
    (checkpoint.folder / "generation_config.json").unlink(missing_ok=True)
    ids = np.random.default_rng(seed)
    arrays = {}
    for number, length in enumerate(LENGTHS):
        sequence = ids.integers(0, config.vocab_size, length)
        with torch.no_grad():
            logits = model(torch.tensor(sequence)[None], use_cache=False).logits[0]
        arrays[f"ids{number}"] = sequence.astype(np.int32)
        arrays[f"logits{number}"] = logits.numpy()
    np.savez_compressed(checkpoint.folder / "expected.npz", **arrays)


def randomize(model: torch.nn.Module, seed: int) -> None:
    """Norm weights near what leaves values alone, biases and matrices normal; so that every tensor matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise * WEIGHT_SPREAD)
            elif name.endswith("norm.weight"):
                parameter.copy_(parameter + noise * VECTOR_SPREAD)
            else:
                parameter.copy_(noise * VECTOR_SPREAD)


if __name__ == "__main__":
    main()
