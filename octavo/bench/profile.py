"""`octavo bench profile`: where the time of a step goes, instruction by instruction, and what each fusion pays.

Runs a model's program on steps made by hand: decoding of several rows, and a prompt. No scheduler, no sampling. The
limit loops run between the steps. Knows the program's profile, not how it is taken.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from octavo.backends.cpu.backend import CpuBackend
from octavo.backends.cpu.cost import Cost, StepShape
from octavo.backends.cpu.limits import LimitLoops, MachineLimits, median_limits
from octavo.backends.cpu.planner import FUSIONS, Fusion
from octavo.backends.cpu.profile import ChunkTime, StageInfo, StageTime
from octavo.backends.cpu.program import CpuProgram
from octavo.backends.ops import KvLayout, ProgramLimits, StepInputs
from octavo.base.config import EngineArgs
from octavo.base.errors import ConfigError, MemoryPlanError
from octavo.bench.limit import limit_s
from octavo.bench.pages import fill_pages
from octavo.bench.workload import check_positive
from octavo.runner.memory import MemoryPlan

_TRACED_STEPS = 3
_MAX_EVENTS = 200_000
_LAYER = re.compile(r"(?:[A-Za-z_]+\.)*[A-Za-z_]+\.\d+\.")  # "blk.3.", "model.layers.3."


@dataclass(frozen=True)
class Step:
    """One kind of step to profile: every row computes `num_tokens` up to its `context`."""

    name: str
    num_rows: int
    num_tokens: int
    context: int

    @property
    def shape(self) -> StepShape:
        return StepShape(((self.num_tokens, self.context),) * self.num_rows, self.num_rows)

    def inputs(self, layout: KvLayout, vocab_size: int) -> StepInputs:
        """Random tokens in pages of their own, the last token of each row sampled."""
        total, page = self.num_rows * self.num_tokens, layout.page_size
        pages = -(-self.context // page)
        positions = np.tile(np.arange(self.context - self.num_tokens, self.context, dtype=np.int32), self.num_rows)
        starts = np.arange(0, total + 1, self.num_tokens, dtype=np.int32)
        table = np.arange(self.num_rows * pages, dtype=np.int32).reshape(self.num_rows, pages)
        tables = tuple(table + group * self.num_rows * pages for group in range(len(layout.groups)))
        tokens = np.random.default_rng(1).integers(0, vocab_size, total).astype(np.int32)
        contexts = np.full(self.num_rows, self.context, np.int32)
        return StepInputs(tokens, positions, starts, contexts, tables, starts[1:] - 1)

    def num_pages(self, layout: KvLayout) -> int:
        return self.num_rows * -(-self.context // layout.page_size) * len(layout.groups)


@dataclass(frozen=True)
class Line:
    """Instructions of one stage, or of all stages that are alike: microseconds a step over all of them.

    `wall_us` reaches to the next stage; `waited` is the share of the workers' time in it that no chunk took.
    """

    name: str
    ops: str
    count: int
    wall_us: float
    share: float
    waited: float
    gb_per_s: float
    gop_per_s: float
    limit_us: float
    fraction: float


@dataclass(frozen=True)
class StepProfile:
    """One kind of step: medians of whole steps, sums by instruction."""

    step: Step
    step_us: float
    limit_us: float
    fraction: float
    kinds: list[Line]
    groups: list[Line]
    instructions: list[Line]


@dataclass(frozen=True)
class FusionTime:
    """Microseconds a step without one fusion (or without all), and what that is of a step with all."""

    left_out: str
    step: str
    step_us: float
    ratio: float


@dataclass(frozen=True)
class Profiles:
    """Everything that one command measured."""

    model: str
    isa: str
    threads: int
    gb_per_s: float
    gop_per_s: dict[str, float]
    steps: list[StepProfile]
    fusions: list[FusionTime]


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory, of which programs with any fusions can be made. All share weights, pages and workers."""

    name: str
    backend: CpuBackend
    layout: KvLayout
    vocab_size: int
    _build: Any
    _limits: ProgramLimits

    def program(self, fusions: frozenset[Fusion] = FUSIONS) -> CpuProgram:
        backend = CpuBackend(isa=self.backend.isa, pool=self.backend.pool, fusions=fusions)
        program: CpuProgram = self._build(backend, self._limits)
        return program


@contextmanager
def loaded(args: EngineArgs, steps: Sequence[Step]) -> Iterator[LoadedModel]:
    """The model, with pages for the largest of the steps, and something in those that steps only read.

    Raises:
        ConfigError: another backend than the CPU's, or a step that the model's context cannot hold.
        MemoryPlanError, ModelError: as planning and loading find them.
    """
    from octavo.models.load import load_weights
    from octavo.wiring import open_model

    sized = replace(
        args,
        max_num_seqs=max(step.num_rows for step in steps),
        max_num_batched_tokens=max(step.num_rows * step.num_tokens for step in steps),
    )
    with open_model(sized) as model:
        backend = model.backend
        if not isinstance(backend, CpuBackend):
            raise ConfigError(f"`octavo bench profile` profiles the CPU backend alone, not {args.backend!r}.")
        longest, most = max(step.context for step in steps), args.max_model_len or model.spec.max_position
        if longest > most:
            raise ConfigError(f"{longest} tokens are more than the model's context of {most}.")
        num_pages = max(step.num_pages(model.layout) for step in steps)
        check_fits(model.plan, num_pages)
        kv = backend.allocate_kv(model.layout, num_pages)
        for step in steps:
            if step.num_tokens < step.context:
                tables = step.inputs(model.layout, model.spec.vocab_size).page_tables
                fill_pages(backend, kv, tables, step.context)
        weights = load_weights(model.spec, model.source, backend)
        limits = ProgramLimits(
            max(step.num_rows * step.num_tokens for step in steps),
            max(step.num_rows for step in steps),
            max(step.num_rows for step in steps),
            longest,
        )

        def build(other: CpuBackend, bounds: ProgramLimits) -> CpuProgram:
            return other.build(model.forward, weights, kv, bounds)

        yield LoadedModel(args.model, backend, model.layout, model.spec.vocab_size, build, limits)
        backend.close()


def check_fits(plan: MemoryPlan, num_pages: int) -> None:
    """Raises MemoryPlanError where so many pages are more than weights and scratch leave of the free memory."""
    wanted = num_pages * plan.page_bytes
    left = plan.available_bytes - plan.weights_bytes - plan.scratch_bytes
    if wanted > left:
        raise MemoryPlanError(
            f"The rows' contexts take {wanted / 2**20:.1f} MiB of KV pages, but weights and scratch leave "
            f"{left / 2**20:.1f} MiB of memory. Lower --batch-size, --context-len or --input-len."
        )


# ---------------------------------------------------------------- measuring


def measure(
    args: EngineArgs, steps: Sequence[Step], *, repeat: int, fusions: bool
) -> tuple[Profiles, list[dict[str, Any]]]:
    """Profiles every step, and the events of a trace of some of each kind.

    With `fusions`, also times a program without each fusion and one without any, their steps in turn.
    """
    check_positive(num_iters=repeat)
    for step in steps:
        check_positive(batch_size=step.num_rows, input_len=step.num_tokens, context_len=step.context)
    with loaded(args, steps) as model:
        loops = LimitLoops(model.backend)
        samples = [loops.sample()]
        program = model.program()
        found, events = [], []
        for number, step in enumerate(steps):
            meta = program.prepare(step.inputs(model.layout, model.vocab_size))
            program.run(meta)
            program.profile(True, max_events=_MAX_EVENTS)
            for _ in range(_TRACED_STEPS):
                program.run(meta)
            events += trace_events(program.take_events(), program.take_profile(), step.name, number)
            program.profile(True)
            times, stages, machine = [], [], []
            for _ in range(repeat):
                machine.append(loops.sample())
                times.append(_seconds(program, meta))
                stages.append(program.take_profile())
            samples += machine
            costs = program.costs(step.shape)
            found.append(step_profile(step, times, stages, costs, median_limits(machine), model.backend.num_threads))
            program.profile(False)
        compared = _compare_fusions(model, steps, repeat) if fusions else []
        overall = median_limits(samples)
        rates: dict[str, float] = {name: 1e-9 * rate for name, rate in overall.operations_per_s.items()}
        return Profiles(
            model.name, model.backend.isa, model.backend.num_threads, 1e-9 * overall.bytes_per_s, rates, found, compared
        ), events


def _seconds(program: CpuProgram, meta: Any) -> float:
    begin = time.perf_counter()
    program.run(meta)
    return time.perf_counter() - begin


def _compare_fusions(model: LoadedModel, steps: Sequence[Step], repeat: int) -> list[FusionTime]:
    """Each program takes its turn in every round: the machine is the same for all."""
    choices: dict[str, frozenset[Fusion]] = {"none": FUSIONS}
    choices |= {f"{fusion}": FUSIONS - {fusion} for fusion in sorted(FUSIONS)}
    choices["all"] = frozenset()
    programs = {name: model.program(fusions) for name, fusions in choices.items()}
    found = []
    for step in steps:
        inputs = step.inputs(model.layout, model.vocab_size)
        metas = {name: program.prepare(inputs) for name, program in programs.items()}
        times: dict[str, list[float]] = {name: [] for name in programs}
        for number in range(repeat + 1):
            for name, program in programs.items():
                seconds = _seconds(program, metas[name])
                if number:
                    times[name].append(seconds)
        medians = {name: statistics.median(own) for name, own in times.items()}
        found += [FusionTime(name, step.name, 1e6 * s, s / medians["none"]) for name, s in medians.items()]
    return found


# ---------------------------------------------------------------- from times to lines


@dataclass(frozen=True)
class _Part:
    """A stage of one step: seconds, and what it had to do."""

    info: StageInfo
    wall_s: float
    work_s: float
    nbytes: int
    operations: int
    limit_s: float


def step_profile(step: Step, times: Sequence[float], runs: Sequence[Sequence[StageTime]], costs: Sequence[list[Cost]],
                 machine: MachineLimits, threads: int) -> StepProfile:  # fmt: skip
    """From the seconds of whole steps and the stages' of each (medians over the runs), and the stages' costs."""
    parts = []
    for stages, cost in zip(zip(*runs, strict=True), costs, strict=True):
        if stages[0].runs:
            wall, work = (statistics.median(own) for own in zip(*((s.wall_s, s.work_s) for s in stages), strict=True))
            nbytes, operations = sum(c.nbytes for c in cost), sum(c.operations for c in cost)
            parts.append(_Part(stages[0].info, wall, work, nbytes, operations, limit_s(cost, machine)))
    took, least = statistics.median(times), sum(part.limit_s for part in parts)
    lines = [_lines(parts, name_of, threads) for name_of in (kind_name, group_name, full_name)]
    return StepProfile(step, 1e6 * took, 1e6 * least, least / took, *lines)


def _lines(parts: Sequence[_Part], name_of: Callable[[StageInfo], str], threads: int) -> list[Line]:
    """Parts of one name together, in the order of their first."""
    whole = sum(part.wall_s for part in parts)
    merged: dict[str, list[_Part]] = {}
    for part in parts:
        merged.setdefault(name_of(part.info), []).append(part)
    found = []
    for name, own in merged.items():
        wall, least = sum(part.wall_s for part in own), sum(part.limit_s for part in own)
        found.append(
            Line(
                name=name,
                ops=" + ".join(own[0].info.ops),
                count=len(own),
                wall_us=1e6 * wall,
                share=wall / whole,
                waited=1 - sum(part.work_s for part in own) / (threads * wall),
                gb_per_s=1e-9 * sum(part.nbytes for part in own) / wall,
                gop_per_s=1e-9 * sum(part.operations for part in own) / wall,
                limit_us=1e6 * least,
                fraction=least / wall,
            )
        )
    return found


def kind_name(info: StageInfo) -> str:
    """What kind of work a stage is: its products by their format, anything else by its first instructions."""
    if info.kind in ("linear", "gated"):
        return f"{info.kind} {'+'.join(dict.fromkeys(weight.format for weight in info.weights))}"
    return info.kind


def group_name(info: StageInfo) -> str:
    """The weights or instructions of a stage, the same for every layer."""
    return _LAYER.sub("", full_name(info))


def full_name(info: StageInfo) -> str:
    """A stage by its weights, or by its instructions where it has none."""
    if info.kind == "rows" or not info.weights:
        return " + ".join(dict.fromkeys(op.lower() for op in info.ops))
    return " + ".join(weight.name.removesuffix(".weight") for weight in info.weights)


def trace_events(
    chunks: Sequence[ChunkTime], stages: Sequence[StageTime], process: str, number: int
) -> list[dict[str, Any]]:
    """Events of Chrome's trace format: a process for each kind of step, a thread for each worker, microseconds."""
    if not chunks:
        return []
    named: list[dict[str, Any]] = [{"name": "process_name", "ph": "M", "pid": number, "args": {"name": process}}]
    workers = sorted({chunk.worker for chunk in chunks})
    named += [
        {"name": "thread_name", "ph": "M", "pid": number, "tid": w, "args": {"name": f"worker {w}"}} for w in workers
    ]
    origin = min(chunk.begin_ns for chunk in chunks)
    infos = [stage.info for stage in stages]
    return named + [
        {
            "name": full_name(infos[chunk.stage]),
            "cat": infos[chunk.stage].kind,
            "ph": "X",
            "pid": number,
            "tid": chunk.worker,
            "ts": (chunk.begin_ns - origin) / 1000,
            "dur": (chunk.end_ns - chunk.begin_ns) / 1000,
            "args": {"stage": chunk.stage, "ops": " + ".join(infos[chunk.stage].ops)},
        }
        for chunk in chunks
    ]


def trace(events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A whole trace file, as chrome://tracing and Perfetto read it."""
    return {"traceEvents": list(events), "displayTimeUnit": "ns"}
