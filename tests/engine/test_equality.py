"""Equality over random workloads: whatever shares a step, a page or a prefix, the tokens stay what they are alone."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from octavo.base.types import EngineLimits, KvGroup, Request, StepPlan
from octavo.engine.sequence import completion_seed
from tests.engine.fake import FULL, limits, request
from tests.engine.harness import Harness, expected

GROUPS = [
    (FULL,),
    (KvGroup("w", 5),),
    (FULL, KvGroup("w", 6)),
    (KvGroup("a", 3), KvGroup("b", 9)),
    (FULL, KvGroup("a", 1), KvGroup("b", 8)),
]
BOUNDED = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@dataclass
class Workload:
    """Requests with their arrival steps, and aborts: (step, request, completion or None)."""

    limits: EngineLimits
    arrivals: list[tuple[int, Request]]
    aborts: list[tuple[int, str, int | None]]


def random_request(rng: random.Random, name: str, lim: EngineLimits) -> Request:
    """Prompts share a few beginnings, so that prefixes meet; some are longer than a step's budget."""
    base = [1 + (rng.randrange(2) * 7 + i * i) % 11 for i in range(rng.randrange(1, 30))]
    prompt = base[: rng.randrange(1, len(base) + 1)] + [rng.randrange(12) for _ in range(rng.randrange(4))]
    max_tokens = rng.choice([1, 2, 5, 12, 30])
    return request(
        name,
        prompt[: lim.max_model_len - 1],
        eos=(0, 3) if rng.random() < 0.5 else (),
        priority=rng.choice([0, 0, 0, 1, -1]),
        salt=rng.choice([None, None, None, "tenant"]),
        temperature=rng.choice([0.0, 1.0]),
        seed=rng.randrange(2**40),
        n=rng.choice([1, 1, 1, 2, 4]),
        max_tokens=max_tokens,
        min_tokens=rng.choice([0, 0, max_tokens // 2]),
        stop_token_ids=rng.choice([None, [5], [6, 7]]),
        ignore_eos=rng.random() < 0.2,
        logprobs=rng.choice([None, 0]),
        prompt_logprobs=rng.choice([None, None, 0]),
    )


def random_workload(seed: int, *, aborts: bool = False) -> Workload:
    rng = random.Random(seed)
    groups = rng.choice(GROUPS)
    size = rng.choice([1, 2, 4, 8])
    lim = limits(
        groups=groups,
        page_size=size,
        num_pages=(rng.choice([20, 32, 48, 120]) // size + 2) * len(groups),
        max_num_seqs=rng.choice([1, 3, 8]),
        max_num_batched_tokens=rng.choice([1, 5, 16, 64]),
        max_model_len=rng.choice([40, 64]),
        max_samples=rng.choice([0, 1, 4, 8]),
        enable_prefix_caching=rng.random() < 0.8,
    )
    arrivals = [(rng.randrange(30), random_request(rng, f"r{i}", lim)) for i in range(rng.randrange(1, 9))]
    stops: list[tuple[int, str, int | None]] = []
    if aborts:
        for at, one in arrivals:
            if rng.random() < 0.5:
                index = rng.choice([None, rng.randrange(one.sampling.n)])
                stops.append((at + rng.randrange(12), one.request_id, index))
    return Workload(lim, arrivals, stops)


def play(work: Workload, *, abort_in_flight: bool = False) -> Harness:
    harness = Harness(work.limits)
    step = 0
    while harness.core.has_work or any(at >= step for at, _ in work.arrivals):
        harness.add(*[one for at, one in work.arrivals if at == step])
        if abort_in_flight:
            harness.core.launch()
        for at, name, index in work.aborts:
            if at == step:
                harness.core.abort(name, index)
                harness.core.scheduler.check()
        harness.step()
        step += 1
        assert step < 20_000, "no progress"
    return harness


def assert_as_alone(harness: Harness, work: Workload) -> None:
    """Every completion has the tokens of the plain model, or (aborted, pool too small) a beginning of them."""
    pool = work.limits
    for _, one in work.arrivals:
        alone = Harness(pool)
        if not work.aborts:
            alone.run(one)
        for index in range(one.sampling.n):
            out = harness.outputs[one.request_id, index]
            truth, reason = expected(pool, one, completion_seed(one.sampling.seed or 0, index))
            assert out.token_ids == truth[: len(out.token_ids)]
            assert out.finish_reason is not None
            if out.finish_reason not in ("abort", "error") and len(out.token_ids) < len(truth):
                longest = len(one.prompt_ids) + len(out.token_ids)
                assert out.finish_reason == "length"
                assert not harness.core.scheduler.space.fits_alone(longest)
            elif out.finish_reason not in ("abort", "error"):
                assert out.finish_reason == reason
            if not work.aborts:
                single = alone.outputs[one.request_id, index]
                assert (out.token_ids, out.finish_reason, out.stop_reason) == (
                    single.token_ids, single.finish_reason, single.stop_reason,
                )  # fmt: skip
                assert (out.logprobs, out.prompt_logprobs) == (single.logprobs, single.prompt_logprobs)


@BOUNDED
@given(st.integers(0, 2**32))
def test_batched_chunked_cached_preempted_and_forked_equal_alone(seed: int) -> None:
    work = random_workload(seed)
    assert_as_alone(play(work), work)


@BOUNDED
@given(st.integers(0, 2**32), st.booleans())
def test_cancellations_change_nobody_else(seed: int, in_flight: bool) -> None:
    work = random_workload(seed, aborts=True)
    harness = play(work, abort_in_flight=in_flight)
    assert_as_alone(harness, work)
    pool = harness.core.scheduler.space.pool
    assert pool.num_free == pool.num_pages


@settings(BOUNDED, max_examples=20)
@given(st.integers(0, 2**32))
def test_plans_are_a_function_of_the_workload(seed: int) -> None:
    work = random_workload(seed, aborts=True)

    def plans() -> list[StepPlan]:
        return play(work).runner.plans

    assert plans() == plans()


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("budget", [1, 3, 7, 64])
def test_chunked_equals_whole(groups: tuple[KvGroup, ...], budget: int) -> None:
    asked = request("a", [1 + i % 5 for i in range(37)], prompt_logprobs=0, logprobs=0)
    whole = Harness(limits(groups=groups, max_num_batched_tokens=64)).run(asked)["a", 0]
    chunked = Harness(limits(groups=groups, max_num_batched_tokens=budget)).run(asked)["a", 0]
    assert chunked == whole


@pytest.mark.parametrize("groups", GROUPS)
def test_cached_equals_cold(groups: tuple[KvGroup, ...]) -> None:
    lim = limits(groups=groups, num_pages=128)
    warm, cold = Harness(lim), Harness(lim)
    first = request("first", [1 + i % 5 for i in range(33)], max_tokens=11)
    warm.run(first)
    second = request("second", [*first.prompt_ids, *warm.tokens("first"), 4, 4])
    warm.run(second)
    cold.run(second)
    assert warm.outputs["second", 0].num_cached_tokens >= 40
    assert warm.tokens("second") == cold.tokens("second")


@pytest.mark.parametrize("groups", GROUPS)
def test_preempted_equals_not(groups: tuple[KvGroup, ...]) -> None:
    asked = [request(f"r{i}", [i + 1] * 3, max_tokens=30, temperature=1.0, seed=i) for i in range(6)]
    most = 11 * len(groups)
    tight, wide = (
        Harness(limits(groups=groups, num_pages=most, page_size=4)),
        Harness(limits(groups=groups, num_pages=400)),
    )
    tight.run(*asked)
    wide.run(*asked)
    if all(group.window is None for group in groups):
        assert tight.core.stats().num_preemptions > 0
    assert wide.core.stats().num_preemptions == 0
    assert {k: v.token_ids for k, v in tight.outputs.items()} == {k: v.token_ids for k, v in wide.outputs.items()}
