"""The seam for speculation: a row that yields several tokens is committed as the result says."""

from __future__ import annotations

import dataclasses

import pytest
from msgspec.structs import replace

from octavo.base.types import StepPlan
from octavo.engine.lineup import Lineup
from octavo.engine.scheduler import Scheduler
from octavo.engine.sequence import Sequence
from tests.engine.fake import FakeRunner, limits, oracle, request, spelled_out


def with_drafts(scheduler: Scheduler, plan: StepPlan, drafts: tuple[int, ...]) -> StepPlan:
    """The plan with draft tokens behind its single row, as a drafting scheduler would make it."""
    flight = scheduler._in_flight[plan.step_id]
    (seq,) = flight.lineup.rows or [seq for seq, _ in flight.steps]
    assert isinstance(seq, Sequence)
    (step,) = spelled_out(plan, {seq.slot: len(seq.tokens)}, len(scheduler.limits.groups)).rows
    pages = scheduler.space.extend(seq, step.start + step.num_tokens + len(drafts))
    new_pages = tuple(old + new for old, new in zip(step.new_pages, pages, strict=True))
    drafted = dataclasses.replace(step, num_tokens=step.num_tokens + len(drafts), draft_ids=drafts, new_pages=new_pages)
    flight.lineup, flight.steps = Lineup(), [(seq, drafted)]
    fresh = plan.zero_pages + scheduler.space.pool.drain_fresh()
    return replace(plan, rows=(drafted,), decodes=(), decode_pages=(), zero_pages=fresh)


@pytest.mark.parametrize("right", [0, 1, 2, 3])
@pytest.mark.parametrize("max_tokens", [2, 12])
def test_accepted_drafts_advance_and_wrong_ones_are_forgotten(right: int, max_tokens: int) -> None:
    lim = limits()
    asked = request("a", [1, 2, 3, 4, 5], max_tokens=max_tokens)
    truth = oracle(lim, asked.prompt_ids, asked.sampling, 7, 40)
    scheduler, runner = Scheduler(lim), FakeRunner(lim)
    scheduler.add(asked)
    out: list[int] = []
    while scheduler.has_work:
        plan = scheduler.schedule()
        assert plan is not None
        at = len(out) + (1 if plan.new_rows else 0)
        if out:
            drafts = truth[at : at + right] + [(truth[at + right] + 1) % 50]
            plan = with_drafts(scheduler, plan, tuple(drafts))
        events = scheduler.commit(plan, runner.run(plan, {}))
        scheduler.check()
        for event in events:
            out += event.token_ids
    assert out == truth[:max_tokens]
    assert len(runner.plans) == 1 + -(-(max_tokens - 1) // (right + 1))
