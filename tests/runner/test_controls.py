"""Sparse controls against their definitions, one by one and in order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from octavo.backends.reference.backend import ReferenceBackend
from octavo.backends.reference.logprobs import log_sum_exp
from octavo.base.sampling import SamplingParams
from octavo.base.types import RowInit, TokenLogprobs
from octavo.runner.controls import Controls, apply_grammar
from octavo.runner.logprobs import token_logprobs

V = 12


def applied(
    tokens: list[int], num_prompt: int, *, eos: tuple[int, ...] = (), bad: Any = (), **params: Any
) -> np.ndarray:
    init = RowInit(0, tuple(tokens), num_prompt, SamplingParams(**params), 1, eos, bad)
    controls = Controls(init, V)
    assert controls.active
    logits = np.linspace(-1, 1, V, dtype=np.float32)
    controls.apply(logits, np.array(tokens, np.int32))
    return logits


BASE = np.linspace(-1, 1, V, dtype=np.float32)


def test_plain_requests_have_nothing_to_do() -> None:
    assert not Controls(RowInit(0, (1,), 1, SamplingParams(temperature=0.7, top_p=0.9, top_k=5), 1), V).active


def test_allowed_tokens_leave_the_rest_impossible() -> None:
    logits = applied([1], 1, allowed_token_ids=[3, 99])
    assert np.isneginf(logits).sum() == V - 1
    assert logits[3] == BASE[3]


def test_bad_words_block_only_their_completion() -> None:
    assert np.isneginf(applied([1], 1, bad=((4,),))[4])
    assert not np.isneginf(applied([1, 5], 1, bad=((2, 4),))[4])
    assert np.isneginf(applied([1, 2], 1, bad=((2, 4),))[4])
    assert not np.isneginf(applied([2], 1, bad=((2, 4),))[4]), "the prompt's own words do not count"


def test_min_tokens_hold_back_every_end() -> None:
    early = applied([1, 2], 1, eos=(7,), min_tokens=2, stop_token_ids=[8])
    assert np.isneginf(early[[7, 8]]).all()
    late = applied([1, 2, 3], 1, eos=(7,), min_tokens=2, stop_token_ids=[8])
    assert not np.isneginf(late).any()
    early = applied([1, 2], 1, eos=(7,), min_tokens=2, ignore_eos=True)
    assert np.isneginf(early[7]), "as vLLM: what ignore_eos ignores is the end, min_tokens forbids the token"


def test_bias_is_added() -> None:
    assert applied([1], 1, logit_bias={2: 5.0, 500: 1.0})[2] == pytest.approx(BASE[2] + 5)


def test_penalties_follow_their_formulas() -> None:
    tokens = [0, 11, 11, 5]  # prompt 0 11, output 11 5
    logits = applied(tokens, 2, repetition_penalty=2.0, frequency_penalty=0.5, presence_penalty=0.25)
    expected = BASE.copy()
    for token in {0, 11, 5}:
        expected[token] = expected[token] / 2 if expected[token] > 0 else expected[token] * 2
    for token in (11, 5):
        expected[token] -= 0.5 * 1 + 0.25
    np.testing.assert_allclose(logits, expected, rtol=1e-6)


def test_penalties_count_as_the_output_grows_and_drafts_are_taken_back() -> None:
    init = RowInit(0, (1,), 1, SamplingParams(frequency_penalty=1.0), 1)
    controls = Controls(init, V)
    for tokens, rejected in (
        ([1], False),
        ([1, 3], False),
        ([1, 3, 3], True),
        ([1, 3, 4], False),
        ([1, 3, 4, 4], False),
    ):
        logits = np.zeros(V, np.float32)
        controls.apply(logits, np.array(tokens, np.int32))
        expected = -np.bincount(tokens[1:], minlength=V).astype(np.float32)
        np.testing.assert_array_equal(logits, expected)
        if rejected:
            controls.recount()


def test_counting_at_once_is_counting_one_by_one() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 300, 500).astype(np.int32)
    init = RowInit(0, tuple(tokens[:200]), 200, SamplingParams(frequency_penalty=0.5, repetition_penalty=1.7), 1)
    grown, whole = Controls(init, 300), Controls(init, 300)
    for length in range(200, 501):
        logits = np.linspace(-2, 2, 300, dtype=np.float32)
        grown.apply(logits, tokens[:length])
    again = np.linspace(-2, 2, 300, dtype=np.float32)
    whole.apply(again, tokens)
    np.testing.assert_array_equal(logits, again)


def test_extreme_penalties_leave_numbers() -> None:
    for penalty in (1e-300, 1e-30, 1e30, 1e300):
        logits = applied([0, 5, 11], 1, repetition_penalty=penalty)
        assert not np.isnan(logits).any() and logits.max() < np.inf
        assert not np.isnan(logits / np.float32(0.01)).any()


def test_bad_words_of_several_tokens_are_found_by_their_head() -> None:
    words = ((2, 4), (3, 2, 5), (2, 2, 6), (7, 8), (2, 99))
    logits = applied([1, 3, 2], 1, bad=words)
    assert np.flatnonzero(np.isneginf(logits)).tolist() == [4, 5]
    assert np.flatnonzero(np.isneginf(applied([3, 2], 1, bad=words))).tolist() == [4], "a head lies in the output"


def test_grammar_masks_by_bit() -> None:
    logits = np.zeros(V, np.float32)
    apply_grammar(logits, bytes([0b00000101]))
    assert np.flatnonzero(~np.isneginf(logits)).tolist() == [0, 2]


def test_logprobs_rank_and_order() -> None:
    logits = np.array([1, 3, 3, 0], np.float32)

    def of(token: int, num_top: int) -> TokenLogprobs:
        (entry,) = token_logprobs(ReferenceBackend(), logits[None], np.array([token], np.int32), num_top)
        return entry

    assert of(2, 3).rank == 1
    assert of(2, 3).top_ids == (1, 2, 0)
    assert sum(np.exp(v) for v in of(0, -1).top_logprobs) == pytest.approx(1)
    assert of(3, 0).top_ids == ()
    assert log_sum_exp(np.array([-np.inf, 0], np.float32)) == 0
