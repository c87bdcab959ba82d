"""Everything at once on the CPU backend: a crowded engine answers each request, bit for bit, as one that has nothing
else to do.

Prefix cache, small chunks, a pool for little more than one sequence (preemption), forks, windows, late arrivals,
priorities, salts and cancelled neighbours, under all sampling controls. Then the same in a child process.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import pytest

from octavo.base.config import EngineArgs
from octavo.base.sampling import SamplingParams
from octavo.base.types import Request, TokenEvent, TokenLogprobs
from octavo.engine.core import EngineCore
from octavo.engine.process import ChildClient

pytest.importorskip("octavo._kernels", reason="CPU BACKEND ABSENT: the extension octavo._kernels is not built")

GOLDEN = Path(__file__).parents[1] / "golden"
MODELS = ["llama3_gqa", "mistral_window", "gemma3_text"]
VOCAB, EOS, CONTEXT = 56, 2, 64


@dataclass
class Answer:
    """All that came out of one completion."""

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)
    end: tuple[str, int | str | None] | None = None

    def take(self, event: TokenEvent) -> None:
        assert self.end is None and event.error is None
        self.token_ids += event.token_ids
        self.logprobs += event.logprobs
        self.prompt_logprobs += event.prompt_logprobs
        if event.finish_reason is not None:
            self.end = (event.finish_reason, event.stop_reason)


Answers = dict[tuple[str, int], Answer]


def take(answers: Answers, events: Iterable[TokenEvent]) -> None:
    for event in events:
        answers.setdefault((event.request_id, event.index), Answer()).take(event)


def assert_same(crowded: Answers, alone: Answers) -> None:
    """Equal, or (cancelled) the beginning of it."""
    assert crowded.keys() == alone.keys()
    for key, answer in crowded.items():
        truth = alone[key]
        if answer.end == ("abort", None):
            assert answer.token_ids == truth.token_ids[: len(answer.token_ids)]
            assert answer.logprobs == truth.logprobs[: len(answer.logprobs)]
            assert answer.prompt_logprobs == truth.prompt_logprobs[: len(answer.prompt_logprobs)]
        else:
            assert answer == truth, key


def random_request(rng: random.Random, name: str, beginnings: Sequence[Sequence[int]]) -> Request:
    """Prompts share their beginnings; any control may be asked for."""
    shared = rng.choice(beginnings)
    own = [rng.randrange(3, VOCAB) for _ in range(rng.randrange(1, 8))]
    prompt = (*shared[: rng.choice([len(shared), len(shared), rng.randrange(len(shared) + 1)])], *own)
    max_tokens = rng.choice([None, None, 1, 9, 24])
    words = [tuple(rng.randrange(3, VOCAB) for _ in range(length)) for length in (1, 1, 2, 2, 3)]
    sampling = SamplingParams(
        n=rng.choice([1, 1, 1, 2, 3]),
        max_tokens=max_tokens,
        min_tokens=rng.choice([0, 0, 1, min(9, max_tokens or 9)]),
        temperature=rng.choice([0.0, 0.0, 1e-4, 0.8, 2.0]),
        top_k=rng.choice([0, 0, 4, 10**6]),
        top_p=rng.choice([1.0, 0.7]),
        min_p=rng.choice([0.0, 0.1]),
        repetition_penalty=rng.choice([1.0, 1.3, 0.8]),
        presence_penalty=rng.choice([0.0, 0.7]),
        frequency_penalty=rng.choice([0.0, -0.6]),
        logit_bias=rng.choice([None, {3: 2.5, 7: -100.0}]),
        allowed_token_ids=rng.choice([None, None, list(range(40))]),
        stop_token_ids=rng.choice([None, [5, 9, 11]]),
        ignore_eos=rng.random() < 0.3,
        seed=rng.choice([0, -5, 2**64 - 1, rng.randrange(2**40)]),
        logprobs=rng.choice([None, 0, 2, -1]),
        prompt_logprobs=rng.choice([None, None, None, 0, 2]),
        detokenize=False,
    )
    return Request(
        name,
        prompt,
        sampling,
        eos_token_ids=(EOS,),
        bad_word_ids=rng.choice([(), tuple(words)]),
        priority=rng.choice([0, 0, 0, -1, 1]),
        cache_salt=rng.choice([None] * 7 + ["tenant"]),
    )


def random_requests(rng: random.Random, count: int) -> list[Request]:
    beginnings = [[rng.randrange(3, VOCAB) for _ in range(length)] for length in (0, 20, 36, 36)]
    return [random_request(rng, f"r{i}", beginnings) for i in range(count)]


# ---------------------------------------------------------------- engines


def roomy(model: str) -> EngineArgs:
    return EngineArgs(
        model=str(GOLDEN / model),
        max_model_len=CONTEXT,
        max_num_seqs=8,
        max_num_batched_tokens=64,
        kv_memory_bytes=1 << 20,
        enable_prefix_caching=False,
        threads=2,
    )


def crowded(model: str, rng: random.Random) -> EngineArgs:
    """Small chunks, and a pool for one sequence of CONTEXT tokens and some pages more."""
    page_bytes, needed = pages(model)
    num_seqs = rng.choice([3, 5, 8])
    return replace(
        roomy(model),
        max_num_seqs=num_seqs,
        max_num_batched_tokens=num_seqs + rng.choice([0, 3, 20]),
        kv_memory_bytes=(needed + max(0, rng.choice([2, needed - 3, 2 * needed - 5, 2 * needed]))) * page_bytes,
        enable_prefix_caching=rng.random() < 0.8,
        threads=rng.choice([1, 2]),
    )


@cache
def pages(model: str) -> tuple[int, int]:
    """Bytes of a page, and how many a sequence of CONTEXT tokens needs."""
    from octavo.wiring import plan_memory

    plan = plan_memory(roomy(model))
    return plan.page_bytes, plan.pages_of(CONTEXT)


@contextmanager
def engine(options: EngineArgs) -> Iterator[EngineCore]:
    from octavo.wiring import build_core

    core = build_core(options)[0]
    try:
        yield core
    finally:
        core.close()


def one_by_one(core: EngineCore, requests: Sequence[Request]) -> Answers:
    answers: Answers = {}
    for request in requests:
        core.add(request)
        while core.has_work:
            take(answers, core.step())
    return answers


def in_a_crowd(core: EngineCore, requests: Sequence[Request], rng: random.Random) -> Answers:
    """Requests arrive over some steps; some are cancelled, also while a step that computes them is in flight."""
    arrivals = sorted(((rng.randrange(2 * len(requests)), request) for request in requests), key=lambda pair: pair[0])
    aborts = Counter(
        {rng.randrange(4 * len(requests)): rng.randrange(len(requests)) for _ in range(len(requests) // 4)}
    )
    answers: Answers = {}
    step = 0
    while arrivals or core.has_work:
        while arrivals and arrivals[0][0] <= step:
            core.add(arrivals.pop(0)[1])
        in_flight = step % 2 and core.launch()
        if step in aborts:
            here = {request.request_id for request in requests} - {request.request_id for _, request in arrivals}
            if f"r{aborts[step]}" in here:
                core.abort(f"r{aborts[step]}", rng.choice([None, 0]))
        core.scheduler.check()
        take(answers, core.land() if in_flight else core.step())
        core.scheduler.check()
        step += 1
        assert step < 20_000, "no progress"
    assert core.stats().kv_pages_used == 0
    return answers


def storm(model: str, seeds: range, count: int) -> Counter[str]:
    """Some workloads in a crowd against the truth; returns how often the ways in which rows can meet occurred."""
    seen: Counter[str] = Counter()
    with engine(roomy(model)) as plain:
        for seed in seeds:
            rng = random.Random(seed)
            requests = random_requests(rng, count)
            alone = one_by_one(plain, requests)
            with engine(crowded(model, rng)) as core:
                answers = in_a_crowd(core, requests, rng)
                assert_same(answers, alone)
                stats = core.stats()
                seen["preemptions"] += stats.num_preemptions
                seen["cached"] += stats.cached_prompt_tokens
                seen["aborted"] += sum(answer.end == ("abort", None) for answer in answers.values())
                seen["given back"] += any(group.window is not None for group in core.limits.groups)
    return seen


@pytest.mark.parametrize("model", MODELS)
def test_a_crowd_changes_nothing(model: str) -> None:
    seen = storm(model, range(3), 24)
    wanted = {
        "llama3_gqa": {"preemptions", "cached", "aborted"},
        "mistral_window": {"cached", "aborted", "given back"},  # windows alone seldom grow
        "gemma3_text": {"preemptions", "cached", "aborted", "given back"},
    }
    assert {what for what, times in seen.items() if times} == wanted[model], f"the test shows nothing: {seen}"


@pytest.mark.soak
@pytest.mark.parametrize("model", MODELS)
def test_a_crowd_changes_nothing_for_long(model: str) -> None:
    storm(model, range(100, 140), 60)


# ---------------------------------------------------------------- a child process


async def through(client: ChildClient, requests: Sequence[Request], aborted: Sequence[str]) -> Answers:
    """Everything a client says to requests that arrive together; some are cancelled once they have begun."""
    answers: Answers = {}
    for request in requests:
        client.add(request)
    open_keys = {(request.request_id, index) for request in requests for index in range(request.sampling.n)}
    while any(key not in answers or answers[key].end is None for key in open_keys):
        events = [event for step in await client.events() for event in step]
        for event in events:
            if event.request_id in aborted and event.finish_reason is None:
                client.abort(event.request_id)
        take(answers, events)
    return answers


@pytest.mark.parametrize("model", ["gemma3_text", pytest.param("llama3_gqa", marks=pytest.mark.soak)])
def test_the_child_process_answers_as_the_engine_inline(model: str) -> None:
    rng = random.Random(7)
    requests = random_requests(rng, 20)
    with engine(roomy(model)) as core:
        alone = one_by_one(core, requests)
    client = ChildClient([sys.executable, "-P", "-m", "octavo.engine_main"], crowded(model, rng))
    try:
        ready = client.wait_ready(120)
        assert ready.limits.vocab_size == VOCAB and ready.limits.max_model_len == CONTEXT
        answers = asyncio.run(asyncio.wait_for(through(client, requests, ("r3", "r8")), 120))
        assert_same(answers, alone)
        again = asyncio.run(asyncio.wait_for(through(client, requests, ()), 120))  # another loop, a warm cache
        assert_same(again, alone)
        assert all(answer.end != ("abort", None) for answer in again.values())
        stats = asyncio.run(asyncio.wait_for(client.stats(), 120))
        assert (stats.kv_pages_used, stats.num_running, stats.num_waiting) == (0, 0, 0)
    finally:
        client.shut()
