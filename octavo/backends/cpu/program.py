"""A CPU program: a plan turned into stages of the C++ side, prepared and replayed for each step.

Owns the sizes that depend on limits and on the number of workers. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from octavo import _kernels
from octavo.backends.cpu.cost import Cost, StepShape, costs_of
from octavo.backends.cpu.graph import Attention, GatedLinear, Instruction, Linear, RowInstruction, Value, aligned
from octavo.backends.cpu.planner import Plan, Stage
from octavo.backends.cpu.profile import ChunkTime, StageTime, stage_infos
from octavo.backends.cpu.recorder import Recording
from octavo.backends.ops import F32, KvLayout, ProgramLimits, StepInputs

_FLOAT_BYTES = 4
_REGIONS = {"tokens": 0, "samples": 1}
_FIXED = 2
_Kind = TypeVar("_Kind", bound=Instruction)


@dataclass(frozen=True)
class Sizes:
    """The arena of a plan: bytes per token, per sample, in the fixed part, and per worker."""

    token_bytes: int
    sample_bytes: int
    fixed_bytes: int
    worker_bytes: int
    partials: int  # offset of the attention's partial results in the fixed part
    max_partials: int


def sizes_of(plan: Plan, limits: ProgramLimits) -> Sizes:
    """The arena's parts at the largest step."""
    instructions = [i for stage in plan.stages for i in stage.instructions]
    attentions = [i for i in instructions if isinstance(i, Attention)]
    max_partials = _kernels.attention_partial_limit(limits.max_rows, limits.max_context)
    partial_floats, worker_bytes = 0, 0
    for attention in attentions:
        head_dim = attention.kv.layout.head_dim
        partial_floats = max(partial_floats, _kernels.attention_partial_floats(attention.num_heads, head_dim))
        worker_bytes = max(worker_bytes, _kernels.attention_workspace_floats(head_dim) * _FLOAT_BYTES)
    worker_bytes = max([worker_bytes, *(_product_bytes(i) for i in instructions)])
    fixed_bytes = plan.output_bytes + aligned(max_partials * partial_floats * _FLOAT_BYTES)
    return Sizes(
        plan.token_bytes, plan.sample_bytes, fixed_bytes, worker_bytes, plan.output_bytes, max_partials
    )  # fmt: skip


def _product_bytes(instruction: Instruction) -> int:
    """What a worker needs for the products of an instruction."""
    match instruction:
        case Linear(weight=weight):
            return _kernels.linear_scratch_bytes(weight.format_number, weight.shape[1])
        case GatedLinear(gate=gate, up=up):
            formats = gate.weight.format_number, up.weight.format_number
            return _kernels.gated_scratch_bytes(*formats, gate.weight.shape[1])
    return 0


def step_limits(
    recording: Recording, limits: ProgramLimits, layout: KvLayout, num_pages: int, sizes: Sizes
) -> _kernels.StepLimits:
    """The limits that the C++ side checks steps against."""
    return _kernels.StepLimits(
        limits.max_tokens,
        limits.max_rows,
        limits.max_samples,
        limits.max_context,
        recording.vocab_size,
        layout.page_size,
        num_pages,
        len(layout.groups),
        sizes.max_partials,
    )


def arena_bytes(limits: _kernels.StepLimits, sizes: Sizes, num_workers: int) -> int:
    """Bytes that a program of these sizes allocates."""
    return _kernels.arena_bytes(
        limits, num_workers, sizes.token_bytes, sizes.sample_bytes, sizes.fixed_bytes, sizes.worker_bytes
    )


class CpuProgram:
    """Implements `octavo.backends.ops.Program`."""

    def __init__(
        self,
        pool: _kernels.Pool,
        isa: str,
        plan: Plan,
        limits: ProgramLimits,
        step_limits: _kernels.StepLimits,
        sizes: Sizes,
    ) -> None:
        self._plan = plan
        self._program = _kernels.Program(pool, isa, step_limits)
        partials = _kernels.Buffer(_FIXED, sizes.partials, 0)
        for stage in plan.stages:
            self._add(stage, partials)
        self._program.seal(sizes.token_bytes, sizes.sample_bytes, sizes.fixed_bytes, sizes.worker_bytes)
        rows = {"tokens": limits.max_tokens, "samples": limits.max_samples}
        self._stages = stage_infos(plan)
        assert len(self._stages) == self._program.num_stages, "stages and their names differ"
        self._submitted: _kernels.Step | None = None
        self._profiled_rows: dict[str, int] | None = None  # by extent; None while no profile is taken
        self._views = {
            name: (value.extent, self._program.view(plan.slots[value.index].offset, rows[value.extent], value.width))
            for name, value in plan.outputs.items()
        }

    @property
    def scratch_bytes(self) -> int:
        return self._program.nbytes

    @property
    def num_stages(self) -> int:
        """Borders of a step, plus one for each attention (its merge)."""
        return self._program.num_stages

    def prepare(self, inputs: StepInputs) -> _kernels.Step:
        """Raises ValueError for inputs that break the contract or the limits."""
        return self._program.prepare(
            inputs.token_ids,
            inputs.positions,
            inputs.row_starts,
            inputs.context_lens,
            list(inputs.page_tables),
            inputs.sample_rows,
        )

    def submit(self, meta: _kernels.Step) -> None:
        """Starts a step on the workers but the caller, and returns at once: they compute while the caller does
        something else, holding the interpreter's lock or not.

        Where another backend's program (or a load) runs on the same pool, waits for its end. Whatever the caller
        itself runs on the pool before it joins (`CpuBackend.sample`) is done by the calling thread alone. Any thread
        may join. Raises RuntimeError where a step was submitted and not joined.
        """
        self._program.submit(meta)
        self._submitted = meta

    def join(self) -> Mapping[str, F32]:
        """Takes part in the submitted step as one more worker until its end, with the interpreter's lock released.

        A team of one does all of it here. Returns the outputs, valid until the next submit. Raises RuntimeError where
        no step was submitted.
        """
        self._program.join()
        meta, self._submitted = self._submitted, None
        assert meta is not None
        num_rows = {"tokens": meta.num_tokens, "samples": meta.num_samples}
        if self._profiled_rows is not None:
            for extent, rows in num_rows.items():
                self._profiled_rows[extent] += rows
        return {name: view[: num_rows[extent]] for name, (extent, view) in self._views.items()}

    def run(self, meta: _kernels.Step) -> Mapping[str, F32]:
        """`submit`, then `join`."""
        self.submit(meta)
        return self.join()

    def profile(self, enabled: bool, *, max_events: int = 0) -> None:
        """Measures every stage of the runs from here on, from zero; off (as at first) it costs nothing.

        On, it asks a clock twice for every chunk (some 50 ns of one). `max_events` chunks are kept one by one for
        `take_events`, an equal part of them for each worker; those that come later are only counted.
        """
        if enabled:
            self._program.start_profile(max_events)
            self._profiled_rows = {"tokens": 0, "samples": 0}
        else:
            self._program.stop_profile()
            self._profiled_rows = None

    def take_profile(self) -> list[StageTime]:
        """Times since `profile(True)` or the last take, by stage in the order of the program.

        Raises RuntimeError where no profile is taken.
        """
        totals = self._program.take_totals()
        assert self._profiled_rows is not None
        rows, self._profiled_rows = self._profiled_rows, dict.fromkeys(self._profiled_rows, 0)
        return [
            StageTime(info, t.runs, rows[info.extent], t.chunks, 1e-9 * t.wall_ns, 1e-9 * t.work_ns)
            for info, t in zip(self._stages, totals, strict=True)
        ]

    def costs(self, shape: StepShape) -> list[list[Cost]]:
        """What each stage must move and compute in a step of that shape, as `take_profile` orders them."""
        found: list[list[Cost]] = []
        for stage in self._plan.stages:
            found.append(costs_of(stage.instructions, shape))
            if stage.kind == "attention":
                found.append([])  # its merge
        return found

    def take_events(self) -> list[ChunkTime]:
        """The chunks kept since `profile(True)` or the last take: by worker, each worker's in order of time."""
        return [ChunkTime(*event) for event in self._program.take_events()]

    def _at(self, value: Value) -> _kernels.Buffer:
        slot = self._plan.slots[value.index]
        return _kernels.Buffer(_FIXED if slot.fixed else _REGIONS[value.extent], slot.offset, slot.stride)

    def _add(self, stage: Stage, partials: _kernels.Buffer) -> None:
        if stage.kind == "rows":
            chain = _kernels.RowChain()
            for instruction in _of(stage, RowInstruction):
                instruction.emit(chain, self._at)
            self._program.add_rows(_REGIONS[stage.extent], chain)
        elif stage.kind == "linear":
            batch = _kernels.LinearBatch()
            for linear in _of(stage, Linear):
                linear.emit(batch, self._at)
            self._program.add_linear(_REGIONS[stage.extent], batch)
        elif stage.kind == "gated":
            for gated in _of(stage, GatedLinear):
                gated.emit(self._program, _REGIONS[stage.extent], self._at)
        else:
            for attention in _of(stage, Attention):
                attention.emit(self._program, self._at, partials)


def _of(stage: Stage, kind: type[_Kind]) -> Sequence[_Kind]:
    return [instruction for instruction in stage.instructions if isinstance(instruction, kind)]
