"""InlineExecutor: plans in order, masks to the sampler, misuse is loud."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from octavo.base.types import StepPlan, StepResult
from octavo.executor.inline import InlineExecutor


class Recorder:
    def __init__(self) -> None:
        self.ran: list[tuple[int, dict[int, bytes]]] = []
        self.begun: list[int] = []
        self.closed = False

    def begin(self, plan: StepPlan) -> None:
        assert len(self.begun) == len(self.ran), "two steps at a time"
        self.begun.append(plan.step_id)

    def finish(self, masks: Mapping[int, bytes]) -> StepResult:
        self.ran.append((self.begun[-1], dict(masks)))
        return StepResult(self.begun[-1], ())

    def close(self) -> None:
        self.closed = True


def test_masks_provided_after_submission_reach_the_runner() -> None:
    runner = Recorder()
    executor = InlineExecutor(runner)
    ticket = executor.submit(StepPlan(4, ()))
    executor.provide(ticket, {1: b"\x01"})
    executor.provide(ticket, {2: b"\x02"})
    assert ticket.step_id == 4
    assert executor.collect(ticket).step_id == 4
    assert runner.ran == [(4, {1: b"\x01", 2: b"\x02"})]


def test_two_steps_may_be_in_flight_and_run_in_order() -> None:
    runner = Recorder()
    executor = InlineExecutor(runner)
    tickets = [executor.submit(StepPlan(i, ())) for i in range(2)]
    assert runner.begun == [0]
    with pytest.raises(AssertionError, match="at most two"):
        executor.submit(StepPlan(2, ()))
    with pytest.raises(AssertionError, match="in the order"):
        executor.collect(tickets[1])
    assert executor.collect(tickets[0]).step_id == 0
    assert runner.begun == [0, 1], "the second begins when the first has ended"
    assert executor.collect(tickets[1]).step_id == 1
    with pytest.raises(AssertionError):
        executor.collect(tickets[1])
    with pytest.raises(AssertionError, match="not in flight"):
        executor.provide(tickets[1], {})


def test_closing_closes_the_runner() -> None:
    runner = Recorder()
    InlineExecutor(runner).close()
    assert runner.closed
