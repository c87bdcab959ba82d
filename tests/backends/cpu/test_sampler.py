"""Log-probabilities and hopeless rows of the CPU backend against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from octavo.backends.cpu import CpuBackend
from octavo.backends.ops import NOT_A_NUMBER, NOTHING_LEFT, SampleRows
from octavo.backends.reference.backend import ReferenceBackend
from octavo.backends.reference.logprobs import logprobs


def controls(rows: int, temperature: float) -> SampleRows:
    return SampleRows(
        temperature=np.full(rows, temperature, np.float32), top_k=np.full(rows, 3, np.int32),
        top_p=np.full(rows, 0.9, np.float32), min_p=np.full(rows, 0.1, np.float32),
        seeds=np.arange(rows, dtype=np.uint64), positions=np.arange(rows, dtype=np.int32),
    )  # fmt: skip


@pytest.mark.parametrize("vocab", [1, 15, 700, 40000])
@pytest.mark.parametrize("num_top", [0, 1, 20, -1])
def test_log_probabilities_are_those_of_the_reference_and_alone_as_in_a_crowd(vocab: int, num_top: int) -> None:
    rng = np.random.default_rng(vocab)
    logits = np.round(rng.standard_normal((5, vocab)) * 4, 1).astype(np.float32)  # with many equals
    logits[1, : vocab // 2] = -np.inf
    tokens = rng.integers(vocab // 2, vocab, 5).astype(np.int32)
    count = vocab if num_top == -1 else min(num_top, vocab)
    backend = CpuBackend(threads=2)
    found, want = backend.logprobs(logits, tokens, count), logprobs(logits, tokens, count)
    assert np.array_equal(found.ranks, want.ranks) and np.array_equal(found.top_ids, want.top_ids)
    np.testing.assert_allclose(found.values, want.values, atol=1e-6)
    np.testing.assert_allclose(found.top_values, want.top_values, atol=1e-6)
    for i in range(5):
        alone = backend.logprobs(logits[i : i + 1], tokens[i : i + 1], count)
        assert alone.values[0] == found.values[i] and np.array_equal(alone.top_values[0], found.top_values[i])


@pytest.mark.parametrize("kind", [CpuBackend, ReferenceBackend])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_without_a_token_says_why(kind: type[CpuBackend | ReferenceBackend], temperature: float) -> None:
    logits = np.zeros((4, 40), np.float32)
    logits[1] = -np.inf
    logits[2, 7] = np.nan
    logits[3] = -np.inf
    logits[3, 5] = -1e30
    tokens = kind().sample(logits, controls(4, temperature)).tolist()
    assert tokens[0] >= 0 and tokens[1:] == [NOTHING_LEFT, NOT_A_NUMBER, 5]


def test_tokens_outside_the_vocabulary_are_refused() -> None:
    with pytest.raises(ValueError, match="no such token"):
        CpuBackend(threads=1).logprobs(np.zeros((1, 4), np.float32), np.array([4], np.int32), 0)
