"""EngineCore: the loop. Plan, run, commit; requests in, token events out.

Wires a Scheduler to an Executor and counts. Knows no text, no streams and no process border.
"""

from __future__ import annotations

import contextlib

from msgspec.structs import replace

from octavo.base.types import EngineLimits, EngineStats, Executor, Request, StepEvents, StepPlan, Ticket, TokenEvent
from octavo.engine.scheduler import Scheduler


class EngineCore:
    """One model's engine. Not thread-safe: one caller.

    `turn` is `land` and `launch`: it hands out what the last step yielded once the next is under way, so that whatever
    the caller does with it happens while other workers compute. `step` launches and lands one step. Between two calls
    requests may be added and aborted; they count from the next launch on.
    """

    def __init__(self, limits: EngineLimits, executor: Executor) -> None:
        self.limits = limits
        self.scheduler = Scheduler(limits)
        self._executor = executor
        self._in_flight: tuple[StepPlan, Ticket] | None = None
        self._events: list[TokenEvent] = []
        self._num_steps = 0
        self._step_seconds = 0.0

    @property
    def has_work(self) -> bool:
        """Whether `step` or `turn` would compute something or has events to hand out."""
        return self._in_flight is not None or bool(self._events) or self.scheduler.has_work

    def add(self, request: Request) -> None:
        """Queues a request; one that can never be served ends with an error event at the next step."""
        self._events += self.scheduler.add(request)

    def abort(self, request_id: str, index: int | None = None) -> None:
        """Ends a request (or one of its completions) with an "abort" event at the next step; pages are free now."""
        self._events += self.scheduler.abort(request_id, index)

    def step(self) -> StepEvents:
        """Computes one step and returns what came out, in a fixed order."""
        self.launch()
        return self.land()

    def turn(self) -> StepEvents:
        """Returns what the step in flight yields, if one is, with the next in flight, if there is one to compute."""
        events = self.land()
        self.launch()
        return events

    def launch(self) -> bool:
        """Plans and submits a step, if there is something to compute and none is in flight."""
        if self._in_flight is None:
            plan = self.scheduler.schedule()
            if plan is not None:
                ticket = self._executor.submit(plan)
                self._in_flight = (plan, ticket)
        return self._in_flight is not None

    def land(self) -> StepEvents:
        """Collects the step in flight, if any, and commits it."""
        before, self._events = self._events, []
        if self._in_flight is None:
            return StepEvents(events=before)
        (plan, ticket), self._in_flight = self._in_flight, None
        result = self._executor.collect(ticket)
        events = self.scheduler.commit(plan, result)
        self._num_steps += 1
        self._step_seconds += result.elapsed_s
        return replace(events, events=[*before, *events.events]) if before else events

    def drop_all(self) -> None:
        """Forgets every request and the step in flight, without events: what to do after a step raised."""
        if self._in_flight is not None:
            (_, ticket), self._in_flight = self._in_flight, None
            with contextlib.suppress(Exception):
                self._executor.collect(ticket)
        self._events = []
        self.scheduler.drop_all()

    def stats(self) -> EngineStats:
        """Gauges now and counters since the start. A page that only the cache knows does not count as used."""
        scheduler, pool, counters = self.scheduler, self.scheduler.space.pool, self.scheduler.counters
        return EngineStats(
            num_running=len(scheduler.running),
            num_waiting=len(scheduler.waiting),
            kv_pages_used=pool.num_pages - pool.num_free,
            kv_pages_total=pool.num_pages,
            num_preemptions=counters.preemptions,
            prompt_tokens=counters.prompt_tokens,
            cached_prompt_tokens=counters.cached_prompt_tokens,
            generation_tokens=counters.generation_tokens,
            num_steps=self._num_steps,
            step_seconds=self._step_seconds,
        )

    def close(self) -> None:
        """Ends the executor; open requests are dropped without events."""
        self._executor.close()
