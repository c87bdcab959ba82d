"""The definition of sampling: which tokens may come, how often, and what the noise depends on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from octavo.backends.reference.sampling import gumbel_noise, mix, sample
from tests.backends.one_op import random
from tests.backends.test_ops_grid import sample_rows

DRAWS = 1500


def drawn(logits: Any, **fields: Any) -> np.ndarray:
    """DRAWS tokens from one row of logits, at as many positions of one seed."""
    rows = sample_rows(DRAWS, **{"temperature": 1.0, "seeds": 5, "positions": np.arange(DRAWS), **fields})
    return sample(np.tile(np.array(logits, np.float32), (DRAWS, 1)), rows)


def test_splitmix64_by_its_published_stream() -> None:
    """The generator adds the increment before it mixes: its first outputs from seed 1234567 are well known."""
    state = np.array([1234567], np.uint64)
    with np.errstate(over="ignore"):
        stream = [int(mix(state + np.uint64(i) * np.uint64(0x9E3779B97F4A7C15))[0]) for i in range(3)]
    assert stream == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_greedy_takes_the_first_maximum() -> None:
    assert sample(np.array([[1, 3, 3, 2]], np.float32), sample_rows(1, temperature=0.0)).tolist() == [1]


def test_frequencies_are_those_of_the_softmax() -> None:
    logits = np.array([1.0, 0.0, -1.0, 2.0, -np.inf])
    for temperature in (0.5, 1.0, 2.0):
        p = np.exp(logits / temperature)
        p /= p.sum()
        counts = np.bincount(drawn(logits, temperature=temperature), minlength=5) / DRAWS
        assert np.abs(counts - p).max() < 4.5 * 0.5 / np.sqrt(DRAWS)
        assert counts[4] == 0


@pytest.mark.parametrize(
    ("fields", "may_come"),
    [
        ({"top_k": 2}, {0, 1}),
        ({"top_k": 3}, {0, 1, 2, 3}),  # 2 and 3 are equal: both stay
        ({"top_p": 0.5}, {0, 1}),
        ({"top_p": 0.39}, {0}),
        ({"top_p": 1e-9}, {0}),
        ({"top_p": 0.75}, {0, 1, 2}),  # of equals the lower id first
        ({"min_p": 0.6}, {0, 1}),
        ({"min_p": 0.3}, {0, 1, 2, 3}),
        ({"min_p": 0.6, "top_k": 1}, {0}),
        ({"top_k": 2, "top_p": 0.6}, {0, 1}),  # the softmax is of what top_k left: 0.4 / 0.7 < 0.6
        ({"top_k": 2, "top_p": 0.55}, {0}),
        ({"temperature": 0.01}, {0}),
    ],
    ids=str,
)
def test_which_tokens_may_come(fields: dict[str, Any], may_come: set[int]) -> None:
    logits = np.log([0.4, 0.3, 0.13, 0.13, 0.04])
    assert set(drawn(logits, **fields).tolist()) == may_come


def test_noise_depends_on_seed_position_and_token_alone() -> None:
    logits = random(1, 3, 50)
    rows = sample_rows(3, seeds=[7, 8, 7], positions=[4, 4, 9])
    together = sample(logits, rows)
    for i, (seed, position) in enumerate(((7, 4), (8, 4), (7, 9))):
        assert sample(logits[i : i + 1], sample_rows(1, seeds=seed, positions=position))[0] == together[i]
    noise = gumbel_noise(7, 4, 1000)
    assert np.array_equal(noise[:10], gumbel_noise(7, 4, 10))
    for other in (gumbel_noise(8, 4, 1000), gumbel_noise(7, 5, 1000)):
        assert abs(np.corrcoef(noise, other)[0, 1]) < 0.1
    assert abs(noise.mean() - np.euler_gamma) < 0.15
