"""A row never feels its neighbours: the same requests give the same tokens and log-probabilities, bit for bit.

Alone, batched, in small chunks, from the prefix cache, after preemption, with another number of threads: on the CPU
backend with real (tiny) models of several families. Workloads are random.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavo.base.config import EngineArgs
from octavo.base.sampling import SamplingParams
from octavo.base.types import Request, TokenLogprobs
from octavo.engine.core import EngineCore

pytest.importorskip("octavo._kernels", reason="CPU BACKEND ABSENT: the extension octavo._kernels is not built")

GOLDEN = Path(__file__).parents[1] / "golden"
MODELS = ["llama3_gqa", "mistral_window", "gemma3_text", "qwen3_head_dim", "llama_mqa"]
VOCAB = 56
CONTEXT = 64
PAGE_TOKENS = 16

Outcome = dict[tuple[str, int], tuple[list[int], list[TokenLogprobs], list[TokenLogprobs], str | None]]


def args(model: str, **changes: object) -> EngineArgs:
    base = EngineArgs(
        model=str(GOLDEN / model),
        max_model_len=CONTEXT,
        max_num_seqs=8,
        max_num_batched_tokens=64,
        kv_memory_bytes=1 << 20,
        enable_prefix_caching=False,
        threads=2,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


@contextmanager
def engine(options: EngineArgs) -> Iterator[EngineCore]:
    from octavo.wiring import build_core

    core = build_core(options)[0]
    try:
        yield core
    finally:
        core.close()


def run(core: EngineCore, requests: list[Request], *, together: bool) -> Outcome:
    """Everything that came out, by request and completion."""
    outcome: Outcome = {}
    groups = [requests] if together else [[request] for request in requests]
    for group in groups:
        for request in group:
            core.add(request)
        while core.has_work:
            for event in core.step():
                tokens, logprobs, prompt, _ = outcome.setdefault((event.request_id, event.index), ([], [], [], None))
                tokens.extend(event.token_ids)
                logprobs.extend(event.logprobs)
                prompt.extend(event.prompt_logprobs)
                assert event.error is None
                outcome[event.request_id, event.index] = (tokens, logprobs, prompt, event.finish_reason)
    return outcome


@st.composite
def samplings(draw: st.DrawFn) -> SamplingParams:
    # n is more than 1 only without prompt log-probabilities: those are asked for by one completion at a time
    prompt_logprobs = draw(st.sampled_from([None, None, None, 1]))
    return SamplingParams(
        n=draw(st.sampled_from([1, 1, 2, 3])) if prompt_logprobs is None else 1,
        max_tokens=draw(st.integers(1, 14)),
        temperature=draw(st.sampled_from([0.0, 0.0, 0.7, 1.5])),
        top_k=draw(st.sampled_from([0, 0, 5])),
        top_p=draw(st.sampled_from([1.0, 0.8])),
        min_p=draw(st.sampled_from([0.0, 0.05])),
        repetition_penalty=draw(st.sampled_from([1.0, 1.3])),
        frequency_penalty=draw(st.sampled_from([0.0, 0.5])),
        logit_bias=draw(st.sampled_from([None, {3: 2.0}])),
        stop_token_ids=draw(st.sampled_from([None, [5, 9]])),
        min_tokens=draw(st.sampled_from([0, 1])),
        seed=draw(st.integers(0, 2**32)),
        logprobs=draw(st.sampled_from([None, 0, 3])),
        prompt_logprobs=prompt_logprobs,
        detokenize=False,
    )


@st.composite
def workloads(draw: st.DrawFn) -> list[Request]:
    token = st.integers(1, VOCAB - 1)
    shared = draw(st.lists(token, min_size=0, max_size=36))
    requests = []
    for i in range(draw(st.integers(2, 6))):
        own = draw(st.lists(token, min_size=1, max_size=12))
        prompt = (shared[: draw(st.integers(0, len(shared)))] + own)[: CONTEXT - 16]
        requests.append(Request(f"r{i}", tuple(prompt), draw(samplings()), eos_token_ids=(2,), arrival_s=float(i)))
    return requests


quick = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


def page_bytes(model: str, dtype: str = "auto") -> int:
    from octavo.wiring import plan_memory

    return plan_memory(args(model, kv_cache_dtype=dtype)).page_bytes


@pytest.mark.parametrize("dtype", ["f16", "bf16", "int8"])
@settings(quick, max_examples=4)
@given(requests=workloads())
def test_every_type_of_pages(dtype: str, requests: list[Request]) -> None:
    """Alone, batched, chunked, from the cache and after preemption (a pool of few pages)."""
    options = args("llama3_gqa", kv_cache_dtype=dtype)
    with engine(options) as core:
        alone = run(core, requests, together=False)
        assert run(core, requests, together=True) == alone
        few = (CONTEXT // PAGE_TOKENS + 2) * len(core.limits.groups) * page_bytes("llama3_gqa", dtype)
    for changes in ({"max_num_batched_tokens": 8}, {"enable_prefix_caching": True}, {"kv_memory_bytes": few}):
        with engine(replace(options, **changes)) as core:  # type: ignore[arg-type]
            assert run(core, requests, together=True) == alone


@pytest.mark.parametrize("model", MODELS)
@quick
@given(requests=workloads())
def test_alone_is_batched_is_chunked_is_one_thread(model: str, requests: list[Request]) -> None:
    with engine(args(model)) as core:
        alone = run(core, requests, together=False)
        assert run(core, requests, together=True) == alone
    with engine(args(model, max_num_batched_tokens=8)) as core:
        assert run(core, requests, together=True) == alone
    with engine(args(model, threads=1)) as core:
        assert run(core, requests, together=True) == alone


@pytest.mark.parametrize("model", MODELS)
@quick
@given(requests=workloads())
def test_cached_prefix_is_cold(model: str, requests: list[Request]) -> None:
    with engine(args(model)) as core:
        cold = run(core, requests, together=True)
    with engine(args(model, enable_prefix_caching=True)) as core:
        assert run(core, requests, together=True) == cold
        again = [replace(r, request_id=r.request_id) for r in requests]
        assert run(core, again, together=True) == cold
        if any(len(r.prompt_ids) > PAGE_TOKENS and r.sampling.prompt_logprobs is None for r in requests):
            assert core.stats().cached_prompt_tokens > 0


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_preempted_is_not(model: str, seed: int) -> None:
    draw = random.Random(seed)
    requests = [
        Request(
            f"r{i}",
            tuple(draw.randrange(1, VOCAB) for _ in range(draw.randint(12, 30))),
            SamplingParams(temperature=draw.choice([0.0, 1.0]), max_tokens=16 + draw.randrange(16), seed=i, logprobs=1),
            arrival_s=float(i),
        )
        for i in range(8)
    ]
    with engine(args(model)) as core:
        roomy = run(core, requests, together=True)
        groups = len(core.limits.groups)
    pages = (CONTEXT // PAGE_TOKENS + 2) * groups
    with engine(args(model, kv_memory_bytes=pages * page_bytes(model))) as core:
        assert run(core, requests, together=True) == roomy
        if all(group.window is None for group in core.limits.groups):  # windows may give back enough pages
            assert core.stats().num_preemptions > 0, "the pool was never too small: the test shows nothing"
