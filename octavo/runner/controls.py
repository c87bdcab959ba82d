"""Sparse sampling controls of one sequence: they change few logits, so they run row by row before the backend's draw.

Order (the one place that documents it; vLLM's V1 order):

1. log-probabilities are taken from the raw logits, before anything below;
2. grammar mask (a bit per token);
3. allowed_token_ids: all others become -inf;
4. bad_words: the token that would complete one in the output becomes -inf;
5. min_tokens: end-of-sequence (with ignore_eos, too) and stop tokens become -inf until reached;
6. logit_bias is added;
7. repetition penalty over prompt and output, then frequency and presence penalty over the output;
8. then `Backend.sample`: greedy, or temperature, min_p, top_k, top_p and the draw.

Where 2 to 5 leave no token at all, the sequence ends with an error: nothing that was forbidden is ever sampled.

Sources: CTRL (Keskar et al. 2019, arXiv:1909.05858) for the repetition penalty; the OpenAI API reference for the other
two.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from octavo.backends.ops import F32
from octavo.base.sampling import SamplingParams
from octavo.base.types import RowInit

Ids = npt.NDArray[np.int64]
NEVER = np.float32(-np.inf)
LARGEST_LOGIT = 1e30  # what extreme penalties stop at, so that no temperature makes an infinity of it


class TokenCounts:
    """Which tokens occur in a sequence and how often in its output; as large as there are different ones."""

    def __init__(self) -> None:
        self._places: dict[int, int] = {}
        self._ids = np.empty(64, np.int64)
        self._times = np.empty(64, np.float32)

    def add(self, tokens: npt.NDArray[np.int32], *, output: bool) -> None:
        if len(tokens) == 1:
            self._add(int(tokens[0]), int(output))
            return
        for token, times in zip(*(a.tolist() for a in np.unique(tokens, return_counts=True)), strict=True):
            self._add(token, times if output else 0)

    def _add(self, token: int, times: int) -> None:
        place = self._places.get(token)
        if place is None:
            place = self._places[token] = len(self._places)
            if place == len(self._ids):
                self._ids = np.concatenate([self._ids, np.empty_like(self._ids)])
                self._times = np.concatenate([self._times, np.empty_like(self._times)])
            self._ids[place], self._times[place] = token, 0
        self._times[place] += times

    @property
    def ids(self) -> Ids:
        return self._ids[: len(self._places)]

    @property
    def times_in_output(self) -> F32:
        return self._times[: len(self._places)]


class Controls:
    """The sparse controls of one sequence, or nothing to do (`active` is False for most requests)."""

    def __init__(self, init: RowInit, vocab_size: int) -> None:
        params = init.sampling
        self._params = params
        self._num_prompt = init.num_prompt
        self._allowed = None if params.allowed_token_ids is None else _ids_below(params.allowed_token_ids, vocab_size)
        words = [word for word in init.bad_word_ids if word and word[-1] < vocab_size]
        self._bad_ids = _ids_below((word[0] for word in words if len(word) == 1), vocab_size)
        self._bad_words: dict[int, list[tuple[int, ...]]] = {}  # longer ones, by the last token but one
        for word in words:
            if len(word) > 1:
                self._bad_words.setdefault(word[-2], []).append(word)
        self._ends = _ids_below((*init.eos_token_ids, *(params.stop_token_ids or ())), vocab_size)
        bias = params.logit_bias or {}
        self._bias_ids = _ids_below(bias, vocab_size)
        self._bias = np.array([bias[int(i)] for i in self._bias_ids], np.float32)
        self._penalized = (
            params.repetition_penalty != 1.0 or params.presence_penalty != 0.0 or params.frequency_penalty != 0.0
        )
        self._counts = TokenCounts()
        self._counted = 0
        self.active = bool(
            self._allowed is not None or words or params.min_tokens or len(self._bias_ids) or self._penalized
        )

    def apply(self, logits: F32, tokens: npt.NDArray[np.int32]) -> None:
        """Changes one row of logits [V] in place; `tokens` is everything before the token to be sampled."""
        num_output = len(tokens) - self._num_prompt
        if self._allowed is not None:
            kept = logits[self._allowed]
            logits.fill(NEVER)
            logits[self._allowed] = kept
        logits[self._bad_ids] = NEVER
        if self._bad_words and num_output:
            for word in self._bad_words.get(int(tokens[-1]), ()):
                if _would_complete(word, tokens[self._num_prompt :]):
                    logits[word[-1]] = NEVER
        if num_output < self._params.min_tokens:
            logits[self._ends] = NEVER
        if len(self._bias_ids):
            logits[self._bias_ids] += self._bias
        if self._penalized:
            self._count(tokens)
            _penalize(logits, self._counts, self._params)

    def recount(self) -> None:
        """What was counted may have been drafts that are rejected now: counts everything anew at the next token."""
        self._counts = TokenCounts()
        self._counted = 0

    def _count(self, tokens: npt.NDArray[np.int32]) -> None:
        border = max(self._counted, min(self._num_prompt, len(tokens)))
        for part, output in ((tokens[self._counted : border], False), (tokens[border:], True)):
            if len(part):
                self._counts.add(part, output=output)
        self._counted = len(tokens)


def _penalize(logits: F32, counts: TokenCounts, params: SamplingParams) -> None:
    ids = counts.ids
    values = logits[ids]
    if params.repetition_penalty != 1.0:
        factor = np.float32(min(max(params.repetition_penalty, 1 / LARGEST_LOGIT), LARGEST_LOGIT))
        with np.errstate(over="ignore"):
            values = np.where(values > 0, np.minimum(values / factor, LARGEST_LOGIT), values * factor)
    if params.frequency_penalty or params.presence_penalty:
        times = counts.times_in_output
        values = values - np.float32(params.frequency_penalty) * times
        values = values - np.float32(params.presence_penalty) * (times > 0).astype(np.float32)
    logits[ids] = values


def _would_complete(word: tuple[int, ...], output: npt.NDArray[np.int32]) -> bool:
    head = word[:-1]
    return len(output) >= len(head) and all(output[len(output) - len(head) + i] == t for i, t in enumerate(head))


def _ids_below(ids: Iterable[int], vocab_size: int) -> Ids:
    return np.array(sorted({i for i in ids if i < vocab_size}), np.int64)


def apply_grammar(logits: F32, mask: bytes) -> None:
    """Disallows every token whose bit in the little-endian bit string is 0 or absent."""
    bits = np.unpackbits(np.frombuffer(mask, np.uint8), bitorder="little")[: len(logits)]
    logits[: len(bits)][bits == 0] = NEVER
    logits[len(bits) :] = NEVER
