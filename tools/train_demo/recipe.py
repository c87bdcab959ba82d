"""The numbers that decide the demo model: shape, schedule, sizes. Imports nothing, so that every part may read it."""

from __future__ import annotations

from dataclasses import dataclass

TOKENIZER_DIALOGUES = 60_000
TOKENIZER_SEED = 1
QUESTIONS_PER_CATEGORY = 100


@dataclass(frozen=True)
class DemoConfig:
    """Shape of the model; every row length is a multiple of 256 so that all block formats apply."""

    vocab_size: int = 4096
    hidden_size: int = 256
    intermediate_size: int = 768
    num_layers: int = 6
    num_heads: int = 4
    num_kv_heads: int = 2
    head_dim: int = 64
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-5
    max_positions: int = 2048


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights besides the generator."""

    steps: int = 1440
    # (step, share of the peak learning rate), linear between
    schedule: tuple[tuple[int, float], ...] = ((0, 0.0), (50, 1.0), (450, 1.0), (1440, 0.01))
    dialogues: int = 40  # a step and worker
    muon_rate: float = 0.01
    adam_rate: float = 2e-3
    weight_decay: float = 0.1
    seed: int = 7
    workers: int = 2
