"""The planner: from recorded instructions to stages, and from values to places in the arena.

A stage is what the pool computes between two borders: a chain of row instructions, products over the same rows, or one
attention. Fusing changes who computes a row and when, never what: a fused program gives the bits of an unfused one.
Values share memory when they are never alive in the same stage. Knows sizes, no weights and no kernels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from octavo.backends.cpu.graph import (
    Add,
    Attention,
    Extent,
    Gated,
    GatedLinear,
    Gather,
    Instruction,
    Linear,
    Quantize,
    RowInstruction,
    StoreKv,
    Value,
    aligned,
)
from octavo.backends.cpu.recorder import Recording

StageKind = Literal["rows", "linear", "gated", "attention"]
Fusion = Literal["rows", "products", "gated", "residual", "memory"]
# What the planner may join: row instructions into chains, independent products into one stage, gate and up with their
# gating and quantization, a product with the sum behind it, the memory of values that are never alive together.
FUSIONS: frozenset[Fusion] = frozenset(get_args(Fusion))
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Stage:
    kind: StageKind
    extent: Extent
    instructions: tuple[Instruction, ...]


@dataclass(frozen=True)
class Slot:
    """Where a value lies: bytes per row of its extent, or plain bytes in the fixed part for outputs."""

    fixed: bool
    offset: int
    stride: int  # bytes between two rows


@dataclass(frozen=True)
class Plan:
    """Stages in order, and the place of every value. `token_bytes` and `sample_bytes` are per row."""

    stages: tuple[Stage, ...]
    slots: Mapping[int, Slot]  # by Value.index
    outputs: Mapping[str, Value]
    token_bytes: int
    sample_bytes: int
    output_bytes: int


def plan(recording: Recording, max_tokens: int, max_samples: int, fusions: frozenset[Fusion] = FUSIONS) -> Plan:
    """Plans a recording. Without fusions, every instruction has a stage and every value memory of its own."""
    instructions: Sequence[Instruction] = recording.instructions
    pinned = {value.index for value in recording.outputs.values()}
    if "gated" in fusions:
        instructions = gate_products(instructions, pinned)
    if "residual" in fusions:
        instructions = add_residuals(instructions, pinned)
    stages = _staged(instructions, fusions)
    rows = {"tokens": max_tokens, "samples": max_samples}
    slots, output_bytes = {}, 0
    for value in {v.index: v for v in recording.outputs.values()}.values():
        stride = value.width * _FLOAT_BYTES
        slots[value.index] = Slot(True, output_bytes, stride)
        output_bytes += aligned(rows[value.extent] * stride)
    sizes = {}
    for extent in ("tokens", "samples"):
        storages = storages_of(stages, pinned, extent, share="memory" in fusions)
        sizes[extent] = _place(storages, slots)
    return Plan(tuple(stages), slots, recording.outputs, sizes["tokens"], sizes["samples"], output_bytes)


# ---------------------------------------------------------------- fusing


def gate_products(instructions: Sequence[Instruction], pinned: set[int]) -> list[Instruction]:
    """Two products of one activation that only meet in a Gated become one instruction, with the Quantize behind it."""
    readers = _readers(instructions)
    makers = {i.out.index: n for n, i in enumerate(instructions) if i.out is not None}
    result: dict[int, Instruction] = dict(enumerate(instructions))
    for n, instruction in enumerate(instructions):
        if not isinstance(instruction, Gated):
            continue
        at = [makers[value.index] for value in (instruction.gate, instruction.up)]
        gate, up = (instructions[m] for m in at)
        if not (isinstance(gate, Linear) and isinstance(up, Linear) and gate.act is up.act):
            continue
        products = (gate.out.index, up.out.index)
        if gate is up or any(readers[p] != [n] or p in pinned for p in products):
            continue
        if not all(part.factor == 1.0 and part.soft_cap == 0.0 for part in (gate, up)):
            continue
        for m in at:
            del result[m]
        out, kind, place = instruction.out, 0, n
        after = [instructions[r] for r in readers[out.index]]
        if len(after) == 1 and isinstance(after[0], Quantize) and out.index not in pinned and not out.width % 32:
            place, out, kind = readers[out.index][0], after[0].out, after[0].kind
            del result[n]
        result[place] = GatedLinear(out, gate.act, gate, up, instruction.activation, kind)
    return [result[n] for n in sorted(result)]


def add_residuals(instructions: Sequence[Instruction], pinned: set[int]) -> list[Instruction]:
    """Linear followed by Add becomes a product that is added to the other operand in its place.

    Only where nobody else wants the product, the operand dies there, and no bias stands between (a sum of three would
    be added in another order). A product moves to its Add and reads its activation later than recorded: that value may
    not be one that another sum takes over.
    """
    readers = _readers(instructions)
    makers = {i.out.index: n for n, i in enumerate(instructions) if i.out is not None}
    result: dict[int, Instruction] = dict(enumerate(instructions))
    taken: set[int] = set()  # values that a sum takes over
    moved: set[int] = set()  # activations of products that moved to their Add
    for n, instruction in enumerate(instructions):
        if not isinstance(instruction, Add) or instruction.out.index in pinned:
            continue
        for kept, product in ((instruction.a, instruction.b), (instruction.b, instruction.a)):
            made = makers.get(product.index)
            linear = None if made is None else result.get(made)
            if made is None or not isinstance(linear, Linear) or not _plain(linear, kept):
                continue
            if kept is product or readers[product.index] != [n] or max(readers[kept.index]) != n:
                continue
            if kept.index in pinned or product.index in pinned:
                continue
            if kept.index in moved or linear.act.index in taken:
                continue
            taken.add(kept.index)
            moved.add(linear.act.index)
            # The sum takes the place of the Add, so that everything that read the operand comes before it.
            result[n] = replace(linear, out=instruction.out, add_to=kept)
            del result[made]
            break
    return [result[n] for n in sorted(result)]


def _plain(linear: Linear, kept: Value) -> bool:
    untouched = linear.bias is None and linear.factor == 1.0 and linear.soft_cap == 0.0
    return untouched and linear.add_to is None and linear.act is not kept


def _readers(instructions: Iterable[Instruction]) -> dict[int, list[int]]:
    readers: dict[int, list[int]] = defaultdict(list)
    for n, instruction in enumerate(instructions):
        for value in instruction.reads:
            readers[value.index].append(n)
    return readers


# ---------------------------------------------------------------- stages


def _staged(instructions: Sequence[Instruction], fusions: frozenset[Fusion]) -> list[Stage]:
    """Rounds of what is ready: first all row instructions of one extent, then all products, then one of the others."""
    if not fusions & {"rows", "products"}:
        return [Stage(_kind(i), _extent(i), (i,)) for i in instructions]
    waiting_for, unblocks = _dependencies(instructions)
    ready = {n for n in range(len(instructions)) if not waiting_for[n]}
    stages = []

    def done(n: int) -> None:
        ready.discard(n)
        for later in unblocks[n]:
            waiting_for[later].discard(n)
            if not waiting_for[later]:
                ready.add(later)

    while ready:
        by_kind = {kind: [n for n in ready if _kind(instructions[n]) == kind] for kind in ("rows", "linear")}
        if by_kind["rows"]:
            extent = _extent(instructions[min(by_kind["rows"])])
            chain: list[int] = []
            while fitting := [n for n in ready if _is(instructions[n], "rows", extent)]:
                chain.append(min(fitting))
                done(chain[-1])
                if "rows" not in fusions:
                    break
            stages.append(Stage("rows", extent, tuple(instructions[n] for n in chain)))
        elif by_kind["linear"]:
            extent = _extent(instructions[min(by_kind["linear"])])
            batch = sorted(n for n in ready if _is(instructions[n], "linear", extent))
            batch = batch if "products" in fusions else batch[:1]
            for n in batch:
                done(n)
            stages.append(Stage("linear", extent, tuple(instructions[n] for n in batch)))
        else:
            first = min(ready)
            done(first)
            stages.append(Stage(_kind(instructions[first]), _extent(instructions[first]), (instructions[first],)))
    assert sum(len(stage.instructions) for stage in stages) == len(instructions), "instructions wait for each other"
    return stages


def _dependencies(instructions: Sequence[Instruction]) -> tuple[list[set[int]], list[set[int]]]:
    """For each instruction, which must come before it and which come after."""
    before: list[set[int]] = [set() for _ in instructions]
    makers: dict[int, int] = {}
    readers = _readers(instructions)
    pages: dict[tuple[int, int], list[int]] = defaultdict(list)  # who used a layer's pages so far
    for n, instruction in enumerate(instructions):
        before[n].update(makers[value.index] for value in instruction.reads)
        if isinstance(instruction, Linear) and instruction.add_to is not None:
            before[n].update(r for r in readers[instruction.add_to.index] if r != n)
        if isinstance(instruction, StoreKv | Attention):
            used = pages[instruction.kv.group, instruction.kv.place]
            before[n].update(used)
            used.append(n)
        if instruction.out is not None:
            makers[instruction.out.index] = n
    after: list[set[int]] = [set() for _ in instructions]
    for n, earlier in enumerate(before):
        for m in earlier:
            after[m].add(n)
    return before, after


def _kind(instruction: Instruction) -> StageKind:
    if isinstance(instruction, RowInstruction):
        return "rows"
    if isinstance(instruction, Linear):
        return "linear"
    return "gated" if isinstance(instruction, GatedLinear) else "attention"


def _extent(instruction: Instruction) -> Extent:
    if isinstance(instruction, RowInstruction):
        return instruction.extent
    assert instruction.out is not None
    return instruction.out.extent


def _is(instruction: Instruction, kind: StageKind, extent: Extent) -> bool:
    return _kind(instruction) == kind and _extent(instruction) == extent


# ---------------------------------------------------------------- memory


@dataclass
class Storage:
    """Memory of one value, or of several that take over from each other; alive in stages [first, last]."""

    nbytes: int  # per row
    first: int
    last: int
    values: list[Value] = field(default_factory=list)
    offset: int = 0


def storages_of(stages: Sequence[Stage], pinned: set[int], extent: Extent, *, share: bool = True) -> list[Storage]:
    """The storages of all values of an extent that are no outputs. Liveness counts in whole stages: workers are at
    different rows, so one value's rows may still be read while another's are written."""
    last_use: dict[int, tuple[int, int]] = {}
    for s, stage in enumerate(stages):
        for i, instruction in enumerate(stage.instructions):
            for value in instruction.reads:
                last_use[value.index] = (s, i)
    storages: list[Storage] = []
    by_value: dict[int, Storage] = {}
    for s, stage in enumerate(stages):
        for i, instruction in enumerate(stage.instructions):
            out = instruction.out
            if out is None or out.extent != extent or out.index in pinned:
                continue
            taken = _taken_over(instruction, by_value, last_use, (s, i)) if share else _added_to(instruction, by_value)
            if taken is None:
                taken = Storage(aligned(out.row_bytes), s, s)
                storages.append(taken)
            taken.values.append(out)
            by_value[out.index] = taken
            end = last_use.get(out.index, (s, i))[0] if share else len(stages)
            taken.last = max(taken.last, end)
    return storages


def _added_to(instruction: Instruction, by_value: Mapping[int, Storage]) -> Storage | None:
    if isinstance(instruction, Linear) and instruction.add_to is not None:
        return by_value[instruction.add_to.index]
    return None


def _taken_over(
    instruction: Instruction,
    by_value: Mapping[int, Storage],
    last_use: Mapping[int, tuple[int, int]],
    here: tuple[int, int],
) -> Storage | None:
    """The storage that `out` takes over from an operand that dies here."""
    added = _added_to(instruction, by_value)
    if added is not None or isinstance(instruction, Gather):
        return added
    for name in instruction.in_place:
        operand: Value = getattr(instruction, name)
        storage = by_value.get(operand.index)
        assert instruction.out is not None
        fits = operand.row_bytes == instruction.out.row_bytes
        if storage is not None and storage.values[-1] is operand and fits and last_use[operand.index] == here:
            return storage
    return None


def _place(storages: Sequence[Storage], slots: dict[int, Slot]) -> int:
    """Gives each storage the lowest offset that is free while it lives; returns the bytes per row of all."""
    placed: list[Storage] = []
    total = 0
    for storage in sorted(storages, key=lambda s: (s.first, -s.nbytes)):
        offset = 0
        placed = [p for p in placed if p.last >= storage.first]
        for other in sorted(placed, key=lambda p: p.offset):
            if offset + storage.nbytes <= other.offset:
                break
            offset = max(offset, other.offset + other.nbytes)
        storage.offset = offset
        placed.append(storage)
        total = max(total, offset + storage.nbytes)
        for value in storage.values:
            slots[value.index] = Slot(False, offset, value.row_bytes)
    return total
