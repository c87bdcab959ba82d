"""The limit: the least time that a step could take on this machine, and what a measured time is of it.

The limit of a step is the sum over its operations of max(bytes / bandwidth, operations / rate). Knows costs and rates,
neither models nor how they are measured.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from octavo.base.errors import ConfigError

if TYPE_CHECKING:
    from octavo.backends.cpu.cost import Cost, StepShape
    from octavo.backends.cpu.limits import MachineLimits
    from octavo.base.config import EngineArgs

Steps = Sequence["StepShape"]


def limit_s(costs: Iterable[Cost], machine: MachineLimits) -> float:
    """Seconds: the sum over the operations of max(bytes / bandwidth, operations / rate)."""
    return sum(
        max(cost.nbytes / machine.bytes_per_s, cost.operations / machine.rate(cost.arithmetic)) for cost in costs
    )


@dataclass(frozen=True)
class Work:
    """The steps that a workload cannot do without: of its prompts, and of the answers' tokens after the first."""

    prefill: tuple[StepShape, ...]
    decode: tuple[StepShape, ...]


def least_work(requests: Sequence[tuple[int, int]], concurrency: int, max_tokens: int) -> Work:
    """The steps for requests of (tokens in, tokens out), `concurrency` at once in their order, without shared prefixes.

    Prompts fill steps of `max_tokens`, at most `concurrency` of them in each. A request's first token comes with its
    prompt, each later one needs a step; where one ends, the next is there for the step after.
    """
    prefill = _prompt_steps([tokens for tokens, _ in requests], concurrency, max_tokens)
    return Work(tuple(prefill), tuple(_decode_steps(requests, concurrency)))


def _prompt_steps(prompts: Sequence[int], concurrency: int, max_tokens: int) -> list[StepShape]:
    from octavo.backends.cpu.cost import StepShape

    steps: list[StepShape] = []
    rows: list[tuple[int, int]] = []
    room, finished = max_tokens, 0
    for length in prompts:
        done = 0
        while done < length:
            tokens = min(room, length - done)
            done += tokens
            room -= tokens
            rows.append((tokens, done))
            finished += done == length
            if room == 0 or len(rows) == concurrency:
                steps.append(StepShape(tuple(rows), finished))
                rows, room, finished = [], max_tokens, 0
    return [*steps, StepShape(tuple(rows), finished)] if rows else steps


def _decode_steps(requests: Sequence[tuple[int, int]], concurrency: int) -> list[StepShape]:
    from octavo.backends.cpu.cost import StepShape

    steps = []
    waiting = deque((tokens + 1, tokens + out) for tokens, out in requests if out > 1)
    running: list[tuple[int, int]] = []  # the context of the next step, and what it is past the last
    while waiting or running:
        while waiting and len(running) < concurrency:
            running.append(waiting.popleft())
        steps.append(StepShape(tuple((1, context) for context, _ in running), len(running)))
        running = [(context + 1, end) for context, end in running if context + 1 < end]
    return steps


@dataclass(frozen=True)
class ModelLimits:
    """The limits of one model's steps. `max_tokens` is the most that a step computes."""

    costs: Callable[[StepShape], Sequence[Cost]]
    max_tokens: int

    def seconds(self, steps: Steps, machine: MachineLimits) -> float:
        return sum(limit_s(self.costs(step), machine) for step in steps)


def model_limits(args: EngineArgs) -> ModelLimits:
    """Describes the model without loading its weights.

    Raises:
        ConfigError: another backend than the CPU's, whose limits nobody knows here.
    """
    from octavo.backends.cpu.backend import CpuBackend
    from octavo.wiring import open_model

    with open_model(args) as model:
        backend = model.backend
        backend.close()
        if not isinstance(backend, CpuBackend):
            raise ConfigError(f"`octavo bench` knows the limits of the CPU backend alone, not of {args.backend!r}.")

        costs = backend.step_costs(model.forward, model.infos, model.layout)
        return ModelLimits(costs, model.plan.max_num_batched_tokens)
