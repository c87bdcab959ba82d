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


# Shares of the categories in the training mixture from a step on. What is learnt gives way to what is not: words must
# be told apart before they can be copied, and copied before a call can name the argument that a schema gives it.
SHARES: tuple[tuple[int, dict[str, float]], ...] = (
    (
        0,
        {
            "facts": 0.10,
            "arithmetic": 0.16,
            "counting and spelling": 0.18,
            "rewriting": 0.21,
            "extraction": 0.11,
            "tool calls": 0.05,
            "follow-ups": 0.06,
            "about Octavo": 0.03,
            "unknowable": 0.07,
            "small talk": 0.03,
        },
    ),
    (
        700,
        {
            "facts": 0.14,
            "arithmetic": 0.16,
            "counting and spelling": 0.19,
            "rewriting": 0.19,
            "extraction": 0.09,
            "tool calls": 0.06,
            "follow-ups": 0.06,
            "about Octavo": 0.03,
            "unknowable": 0.06,
            "small talk": 0.02,
        },
    ),
    (
        1440,
        {
            "facts": 0.10,
            "arithmetic": 0.26,
            "counting and spelling": 0.10,
            "rewriting": 0.10,
            "extraction": 0.15,
            "tool calls": 0.16,
            "follow-ups": 0.04,
            "about Octavo": 0.03,
            "unknowable": 0.04,
            "small talk": 0.02,
        },
    ),
)


def shares_at(step: int) -> dict[str, float]:
    """The mixture of a step."""
    return [shares for start, shares in SHARES if start <= step][-1]


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights besides the generator and the mixture."""

    steps: int = 2200
    # (step, share of the peak learning rate), linear between
    schedule: tuple[tuple[int, float], ...] = (
        (0, 0.0),
        (50, 1.0),
        (450, 1.0),
        (1440, 0.01),
        (1470, 0.35),
        (2200, 0.005),
    )
    dialogues: int = 40  # a step and worker
    muon_rate: float = 0.01
    adam_rate: float = 2e-3
    weight_decay: float = 0.1
    seed: int = 7
    workers: int = 2
