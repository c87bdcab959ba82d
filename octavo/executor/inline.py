"""InlineExecutor: the runner in the caller's own thread, for one device set.

A step begins with its submission, or with the collection of the one before; from then on the runner's workers compute
it, and the caller joins them when it collects. Knows the runner as a protocol only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from octavo.base.types import StepPlan, StepResult, Ticket


class PlanRunner(Protocol):
    """What runs a plan: `octavo.runner.runner.Runner`, or a test's stand-in."""

    def begin(self, plan: StepPlan) -> None:
        """Begins a step; there is none that has begun and not been finished."""

    def finish(self, masks: Mapping[int, bytes]) -> StepResult:
        """Ends the step that has begun, also by raising."""

    def close(self) -> None:
        """Ends the step that has begun, if any, and frees what the runner holds."""


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
        if not self._submitted:
            self._runner.begin(plan)
        self._submitted.append(ticket)
        return ticket

    def provide(self, ticket: Ticket, masks: Mapping[int, bytes]) -> None:
        assert isinstance(ticket, InlineTicket) and ticket in self._submitted, "the step is not in flight"
        ticket.masks.update(masks)

    def collect(self, ticket: Ticket) -> StepResult:
        assert isinstance(ticket, InlineTicket), "a ticket of another executor"
        assert self._submitted and self._submitted[0] is ticket, "steps are collected in the order of submission"
        self._submitted.pop(0)
        result = self._runner.finish(ticket.masks)
        if self._submitted:
            self._runner.begin(self._submitted[0].plan)
        return result

    def close(self) -> None:
        self._runner.close()
