"""What a profile of a program says: time of every stage, and of every chunk for a trace.

Names stages by the instructions and weights of the plan. Knows nothing of clocks: the C++ side measures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from octavo.backends.cpu.graph import Embed, GatedLinear, Instruction, Linear
from octavo.backends.cpu.planner import Plan
from octavo.backends.cpu.weights import CpuWeight

StageTimeKind = Literal["rows", "linear", "gated", "attention", "merge"]


@dataclass(frozen=True)
class StageWeight:
    """A matrix that a stage multiplies (or looks rows up in)."""

    name: str
    format: str
    shape: tuple[int, int]  # outputs, inputs


@dataclass(frozen=True)
class StageInfo:
    """A stage of a program. `ops` are its instructions in order, for example ("RmsNorm", "Quantize")."""

    index: int
    kind: StageTimeKind
    extent: Literal["tokens", "samples"]  # what its rows are: the step's tokens, or those that sample
    ops: tuple[str, ...]
    weights: tuple[StageWeight, ...]


@dataclass(frozen=True)
class StageTime:
    """Sums over the profiled runs in which a stage had work.

    `wall_s` reaches from the stage's opening to that of the next one: with the pool's n workers, `n * wall_s - work_s`
    is what they waited, at the border or for the last chunk. `rows` are tokens or samples, as `info.extent` says.
    """

    info: StageInfo
    runs: int
    rows: int
    chunks: int
    wall_s: float
    work_s: float


class ChunkTime(NamedTuple):
    """One chunk of a stage on one worker; nanoseconds of a steady clock (`time.monotonic_ns` on Linux)."""

    worker: int
    stage: int
    begin_ns: int
    end_ns: int


def stage_infos(plan: Plan) -> tuple[StageInfo, ...]:
    """The stages that the C++ side makes of a plan: one each, and a merge behind every attention."""
    found: list[StageInfo] = []
    for stage in plan.stages:
        ops = tuple(type(instruction).__name__ for instruction in stage.instructions)
        weights = tuple(use for instruction in stage.instructions for use in _matrices(instruction))
        found.append(StageInfo(len(found), stage.kind, stage.extent, ops, weights))
        if stage.kind == "attention":
            found.append(StageInfo(len(found), "merge", stage.extent, ("Merge",), ()))
    return tuple(found)


def _matrices(instruction: Instruction) -> list[StageWeight]:
    match instruction:
        case Linear(weight=weight) | Embed(weight=weight):
            return [_use(weight)]
        case GatedLinear(gate=gate, up=up):
            return [_use(gate.weight), _use(up.weight)]
    return []


def _use(weight: CpuWeight) -> StageWeight:
    rows, columns = weight.shape
    return StageWeight(weight.name, weight.format, (rows, columns))
