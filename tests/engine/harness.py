"""Runs an EngineCore over the fake model, checking its accounts after every step, and gathers what came out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from octavo.base.types import EngineLimits, Request, StepEvents, TokenEvent, TokenLogprobs
from octavo.engine.core import EngineCore
from octavo.executor.inline import InlineExecutor
from tests.engine.fake import FakeRunner, oracle

Completion = tuple[str, int]


@dataclass
class Output:
    """All that one completion yielded."""

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    num_cached_tokens: int = 0
    error: str | None = None


class Harness:
    """An engine under test. `check` off makes long runs cheaper."""

    def __init__(self, lim: EngineLimits, *, check: bool = True) -> None:
        self.limits = lim
        self.runner = FakeRunner(lim)
        self.core = EngineCore(lim, InlineExecutor(self.runner))
        self.outputs: dict[Completion, Output] = {}
        self._check = check

    def add(self, *requests: Request) -> None:
        for request in requests:
            for index in range(request.sampling.n):
                self.outputs[request.request_id, index] = Output()
            self.core.add(request)

    def step(self) -> StepEvents:
        events = self.core.step()
        self.take(events)
        if self._check:
            self.core.scheduler.check()
        return events

    def take(self, events: Iterable[TokenEvent]) -> None:
        for event in events:
            out = self.outputs[event.request_id, event.index]
            assert out.finish_reason is None, f"{event.request_id}: an event after the terminal one"
            if not out.token_ids or event.finish_reason:  # between the two, a token of the lineup says nothing of it
                out.num_cached_tokens = event.num_cached_tokens
            out.token_ids += event.token_ids
            out.logprobs += event.logprobs
            out.prompt_logprobs += event.prompt_logprobs
            out.finish_reason, out.stop_reason, out.error = event.finish_reason, event.stop_reason, event.error

    def run(self, *requests: Request, most: int = 20_000) -> dict[Completion, Output]:
        """Adds the requests and steps until nothing is left; fails if that takes more than `most` steps."""
        self.add(*requests)
        for _ in range(most):
            if not self.core.has_work:
                break
            self.step()
        assert not self.core.has_work, f"still working after {most} steps"
        assert all(out.finish_reason for out in self.outputs.values()), "a completion without an end"
        pool = self.core.scheduler.space.pool
        assert pool.num_free == pool.num_pages, "pages are held, but nothing runs"
        return self.outputs

    def tokens(self, request_id: str, index: int = 0) -> list[int]:
        return self.outputs[request_id, index].token_ids


def expected(lim: EngineLimits, request: Request, seed: int) -> tuple[list[int], str]:
    """What the fake model answers to a request that has the engine for itself, by the finish rules in plain words."""
    sampling = request.sampling
    room = lim.max_model_len - len(request.prompt_ids)
    most = room if sampling.max_tokens is None else min(room, sampling.max_tokens)
    tokens = oracle(lim, request.prompt_ids, sampling, seed, most)
    ends = set(() if sampling.ignore_eos else request.eos_token_ids) | set(sampling.stop_token_ids or ())
    for count in range(max(1, sampling.min_tokens), most + 1):
        if tokens[count - 1] in ends:
            return tokens[:count], "stop"
    return tokens, "length"
