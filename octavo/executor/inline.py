"""InlineExecutor: the runner in the caller's own thread, for one device set.

`submit` only takes the plan: the step runs when its result is collected, so that masks provided in between reach the
sampler. Knows the runner as a protocol only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from octavo.base.types import StepPlan, StepResult, Ticket


class PlanRunner(Protocol):
    """What runs a plan: `octavo.runner.runner.Runner`, or a test's stand-in."""

    def run(self, plan: StepPlan, masks: Mapping[int, bytes]) -> StepResult: ...

    def close(self) -> None: ...


@dataclass(eq=False)
class InlineTicket:
    """A plan that has been submitted, and the masks for its sampler."""

    plan: StepPlan
    masks: dict[int, bytes] = field(default_factory=dict)

    @property
    def step_id(self) -> int:
        return self.plan.step_id


class InlineExecutor:
    """Implements `Executor` around one runner. Steps run in the order in which they were submitted."""

    def __init__(self, runner: PlanRunner) -> None:
        self._runner = runner
        self._submitted: list[InlineTicket] = []

    def submit(self, plan: StepPlan) -> InlineTicket:
        assert len(self._submitted) < 2, "at most two steps may be in flight"
        ticket = InlineTicket(plan)
        self._submitted.append(ticket)
        return ticket

    def provide(self, ticket: Ticket, masks: Mapping[int, bytes]) -> None:
        assert isinstance(ticket, InlineTicket) and ticket in self._submitted, "the step is not in flight"
        ticket.masks.update(masks)

    def collect(self, ticket: Ticket) -> StepResult:
        assert isinstance(ticket, InlineTicket), "a ticket of another executor"
        assert self._submitted and self._submitted[0] is ticket, "steps are collected in the order of submission"
        self._submitted.pop(0)
        return self._runner.run(ticket.plan, ticket.masks)

    def close(self) -> None:
        self._runner.close()
