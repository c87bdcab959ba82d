"""Sequence: one completion in progress, the record that every part of the engine acts on.

Owns its tokens, progress and page tables as state; decides when it is finished. Does not allocate anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from octavo.base.types import FinishReason, Request

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15

Key = tuple[int, int, int]


def completion_seed(seed: int, index: int) -> int:
    """Seed of completion `index`: the request's own (modulo 2**64) for 0, a SplitMix64 output for the others.

    Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    if index == 0:
        return seed & _MASK
    z = (seed + index * _GOLDEN) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    return z ^ (z >> 31)


class Status(Enum):
    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(frozen=True)
class Finish:
    """Why a sequence ended; `stop_reason` is the stop token id."""

    reason: FinishReason
    stop_reason: int | None = None


class Sequence:
    """State of one completion.

    `tokens` is prompt and output; the first `num_computed` of them are in the pages. `tables[g]` is the page table
    of KV group g; all tables of a sequence have the same length. `key` orders sequences: lower is served earlier and
    preempted later.
    """

    __slots__ = (
        "_ends",
        "_max_tokens",
        "_stops",
        "digests",
        "horizon",
        "index",
        "key",
        "name",
        "num_cached",
        "num_computed",
        "num_given_back",
        "num_prompt",
        "num_published",
        "num_sent",
        "prompt_logprobs_next",
        "request",
        "request_id",
        "seed",
        "slot",
        "status",
        "tables",
        "tokens",
    )  # fmt: skip

    def __init__(self, request: Request, index: int, arrival: int, num_groups: int, prompt: list[int]) -> None:
        sampling = request.sampling
        assert sampling.seed is not None, "the frontend draws a seed where none was given"
        self.request = request
        self.request_id = request.request_id
        self.index = index
        self.name = (self.request_id, index)
        self.key: Key = (request.priority, arrival, index)
        self.tokens = prompt  # shared by the completions of a request until `start`
        self.num_prompt = len(self.tokens)
        self.seed = completion_seed(sampling.seed, index)
        self.status = Status.WAITING
        self.slot = -1
        self.num_cached = -1  # set when it first enters
        wants_logprobs = sampling.prompt_logprobs is not None and index == 0
        # next prompt position whose successor's log-probability is still to be reported
        self.prompt_logprobs_next = 0 if wants_logprobs else self.num_prompt
        self.digests: list[bytes] = []
        self._ends = frozenset(() if sampling.ignore_eos else request.eos_token_ids)
        self._stops = frozenset(sampling.stop_token_ids or ())
        self._max_tokens = sampling.max_tokens
        self.horizon = 0  # computed tokens at which a decoding row is looked at again, unless its token calls for it
        self.leave(num_groups)

    def start(self) -> None:
        """Enters for the first time: from here on the tokens are its own."""
        self.tokens = list(self.tokens)

    def leave(self, num_groups: int) -> None:
        """Forget everything that belongs to pages and row slots (they have been released)."""
        self.tables: list[list[int]] = [[] for _ in range(num_groups)]
        self.num_computed = 0
        self.num_published = 0  # leading pages that need not be published (again)
        self.num_sent = 0  # leading table entries the runner knows
        self.num_given_back = [0] * num_groups
        self.slot = -1

    @property
    def num_output(self) -> int:
        return len(self.tokens) - self.num_prompt

    @property
    def num_remaining(self) -> int:
        """Tokens to catch up with before the next one can be sampled."""
        return len(self.tokens) - self.num_computed

    @property
    def decodes(self) -> bool:
        """Whether the last token is all that is to be computed, and nothing of it to be reported but the next.

        The first token of an answer is more than that: with it goes how much of the prompt was cached.
        """
        return self.num_remaining == 1 and self.num_output > 0 and not self.wants_prompt_logprobs

    @property
    def ends(self) -> frozenset[int]:
        """Tokens that may end it."""
        return self._ends | self._stops if self._stops else self._ends

    @property
    def last_length(self) -> int | None:
        """The number of tokens at which max_tokens ends it."""
        return None if self._max_tokens is None else self.num_prompt + self._max_tokens

    @property
    def wants_prompt_logprobs(self) -> bool:
        """Whether log-probabilities of prompt tokens are still to be computed: then the cache is not read."""
        return self.prompt_logprobs_next < self.num_prompt - 1

    def finish_after(self, token: int, max_model_len: int) -> Finish | None:
        """Whether the sequence ends with `token`, just appended. min_tokens holds back ends and stops, not limits."""
        num_output = self.num_output
        if num_output >= self.request.sampling.min_tokens:
            if token in self._ends:
                return Finish("stop")
            if token in self._stops:
                return Finish("stop", token)
        if len(self.tokens) >= max_model_len:
            return Finish("length")
        if self._max_tokens is not None and num_output >= self._max_tokens:
            return Finish("length")
        return None
