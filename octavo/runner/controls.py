"""Sparse sampling controls of one sequence: they change few logits, so they run row by row before the backend's draw.

Order (the one place that documents it; vLLM's V1 order):

1. log-probabilities are taken from the raw logits, before anything below;
2. grammar mask (a bit per token);
3. allowed_token_ids: all others become -inf;
4. bad_words: the token that would complete one becomes -inf;
5. min_tokens: end-of-sequence and stop tokens become -inf until reached;
6. logit_bias is added;
7. repetition penalty over prompt and output, then frequency and presence penalty over the output;
8. then `Backend.sample`: greedy, or temperature, min_p, top_k, top_p and the draw.

Sources: CTRL (Keskar et al. 2019, arXiv:1909.05858) for the repetition penalty; the OpenAI API reference for the other
two.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from octavo.backends.ops import F32
from octavo.base.types import RowInit

Ids = npt.NDArray[np.int64]
NEVER = np.float32(-np.inf)


class TokenCounts:
    """How often each token occurs in a sequence's prompt and output, and which ones do."""

    def __init__(self, vocab_size: int) -> None:
        self.in_output = np.zeros(vocab_size, np.int32)
        self._known = np.zeros(vocab_size, np.bool_)
        self._ids = np.empty(64, np.int64)
        self._num_ids = 0

    def add(self, token: int, *, output: bool) -> None:
        if output:
            self.in_output[token] += 1
        if not self._known[token]:
            self._known[token] = True
            if self._num_ids == len(self._ids):
                self._ids = np.concatenate([self._ids, np.empty_like(self._ids)])
            self._ids[self._num_ids] = token
            self._num_ids += 1

    @property
    def ids(self) -> Ids:
        return self._ids[: self._num_ids]


class Controls:
    """The sparse controls of one sequence, or nothing to do (`active` is False for most requests)."""

    def __init__(self, init: RowInit, vocab_size: int) -> None:
        params = init.sampling
        self._params = params
        self._num_prompt = init.num_prompt
        self._allowed = _mask_of(params.allowed_token_ids, vocab_size)
        self._bad_words = tuple(word for word in init.bad_word_ids if word)
        ends = set(params.stop_token_ids or ()) | (set() if params.ignore_eos else set(init.eos_token_ids))
        self._ends = _ids_below(ends, vocab_size)
        bias = params.logit_bias or {}
        self._bias_ids = _ids_below(bias, vocab_size)
        self._bias = np.array([bias[int(i)] for i in self._bias_ids], np.float32)
        self._penalized = (
            params.repetition_penalty != 1.0 or params.presence_penalty != 0.0 or params.frequency_penalty != 0.0
        )
        self._counts: TokenCounts | None = None
        if self._penalized:
            self._counts = TokenCounts(vocab_size)
            self._counted = 0
        self.active = bool(
            self._allowed is not None or self._bad_words or params.min_tokens or len(self._bias_ids) or self._penalized
        )

    def apply(self, logits: F32, tokens: npt.NDArray[np.int32]) -> None:
        """Changes one row of logits [V] in place; `tokens` is everything before the token to be sampled."""
        num_output = len(tokens) - self._num_prompt
        if self._allowed is not None:
            logits[self._allowed] = NEVER
        for word in self._bad_words:
            if _would_complete(word, tokens[self._num_prompt :]) and word[-1] < len(logits):
                logits[word[-1]] = NEVER
        if num_output < self._params.min_tokens:
            logits[self._ends] = NEVER
        if len(self._bias_ids):
            logits[self._bias_ids] += self._bias
        if self._counts is not None:
            self._count(self._counts, tokens)
            _penalize(logits, self._counts, self._params.repetition_penalty, self._params.frequency_penalty,
                      self._params.presence_penalty)  # fmt: skip

    def _count(self, counts: TokenCounts, tokens: npt.NDArray[np.int32]) -> None:
        if len(tokens) < self._counted:  # a rejected draft had been counted: start over, it is rare
            self._counts = counts = TokenCounts(len(counts.in_output))
            self._counted = 0
        for position in range(self._counted, len(tokens)):
            counts.add(int(tokens[position]), output=position >= self._num_prompt)
        self._counted = len(tokens)


def _penalize(logits: F32, counts: TokenCounts, repetition: float, frequency: float, presence: float) -> None:
    ids = counts.ids
    values = logits[ids]
    if repetition != 1.0:
        factor = np.float32(repetition)
        values = np.where(values > 0, values / factor, values * factor)
    if frequency or presence:
        times = counts.in_output[ids]
        values = values - np.float32(frequency) * times.astype(np.float32)
        values = values - np.float32(presence) * (times > 0).astype(np.float32)
    logits[ids] = values


def _would_complete(word: tuple[int, ...], output: npt.NDArray[np.int32]) -> bool:
    head = word[:-1]
    return len(output) >= len(head) and all(output[len(output) - len(head) + i] == t for i, t in enumerate(head))


def _mask_of(allowed: object, vocab_size: int) -> npt.NDArray[np.bool_] | None:
    if allowed is None:
        return None
    mask = np.ones(vocab_size, np.bool_)
    mask[_ids_below(allowed, vocab_size)] = False
    return mask


def _ids_below(ids: object, vocab_size: int) -> Ids:
    return np.array(sorted(i for i in ids if i < vocab_size), np.int64)  # type: ignore[attr-defined]


def apply_grammar(logits: F32, mask: bytes) -> None:
    """Disallows every token whose bit in the little-endian bit string is 0 or absent."""
    bits = np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little")[: len(logits)]
    logits[: len(bits)][bits == 0] = NEVER
    logits[len(bits) :] = NEVER
