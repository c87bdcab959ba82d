"""What an instruction must move and compute in a step: bytes of memory, operations, and their arithmetic.

The least that any implementation would: weights once a step in their stored form, keys and values once for each row,
activations not at all (they stay in caches). Knows the instructions, no kernel and no machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from octavo import _kernels
from octavo.backends.cpu.graph import (
    Activate,
    Add,
    Attention,
    Embed,
    Gated,
    GatedLinear,
    Instruction,
    LayerNorm,
    Linear,
    Quantize,
    RmsNorm,
    Rope,
    RowInstruction,
    Scale,
    StoreKv,
)
from octavo.backends.cpu.weights import CpuWeight
from octavo.backends.ops import KvLayout
from octavo.weights.geometry import row_nbytes, tensor_nbytes

Arithmetic = Literal["f32", "bf16", "int8"]
_KINDS: dict[int, Arithmetic] = {0: "f32", 1: "bf16", 2: "int8"}  # by what the kernels call the activations' kind
_BY_KV: dict[str, Arithmetic] = {"bf16": "bf16", "int8": "int8"}  # what attention multiplies, at the fastest level

# Additions and multiplications per value that is made; a square root, an exponential or a rounding counts as one.
_PER_VALUE: dict[type[Instruction], int] = {
    RmsNorm: 4,
    LayerNorm: 7,
    Quantize: 3,
    Rope: 3,
    Gated: 5,
    Activate: 4,
    Add: 1,
    Scale: 1,
}


@dataclass(frozen=True)
class StepShape:
    """A step: for each row the tokens it computes and its context after them, and how many rows sample."""

    rows: tuple[tuple[int, int], ...]
    num_samples: int

    @classmethod
    def decode(cls, num_rows: int, context: int) -> StepShape:
        """One token for each of `num_rows` rows, whose own position is the last of `context`."""
        return cls(((1, context),) * num_rows, num_rows)

    @classmethod
    def prompt(cls, num_tokens: int, *, start: int = 0) -> StepShape:
        """Tokens `start` .. `start + num_tokens` of one row, the last of which samples."""
        return cls(((num_tokens, start + num_tokens),), 1)

    @property
    def num_tokens(self) -> int:
        return sum(tokens for tokens, _ in self.rows)


@dataclass(frozen=True)
class Cost:
    """Bytes that come from or go to memory, and operations (a multiply-add is two) of one arithmetic."""

    nbytes: int
    operations: int
    arithmetic: Arithmetic = "f32"


def costs_of(instructions: Iterable[Instruction], shape: StepShape) -> list[Cost]:
    """The operations of a step, in order; what is fused into a product counts as if it were not."""
    return [cost for instruction in instructions for cost in _costs(instruction, shape)]


def _costs(instruction: Instruction, shape: StepShape) -> list[Cost]:
    match instruction:
        case Linear(weight=weight, out=out, add_to=add_to):
            rows = _rows(out.extent, shape)
            return [product_cost(weight, rows), *([Cost(0, _PER_VALUE[Add] * rows * out.width)] if add_to else [])]
        case GatedLinear(gate=gate, up=up, out=out, kind=kind):
            rows = _rows(out.extent, shape)
            per_value = _PER_VALUE[Gated] + (_PER_VALUE[Quantize] if kind else 0)
            products = [product_cost(part.weight, rows) for part in (gate, up)]
            return [*products, Cost(0, per_value * rows * out.width)]
        case Attention():
            return [_attention(instruction, shape)]
        case StoreKv(kv=kv):
            return [Cost(shape.num_tokens * _token_bytes(kv.layout), 0)]
        case Embed(weight=weight):
            return [Cost(shape.num_tokens * row_nbytes(weight.format, weight.shape[1]), 0)]
        case RowInstruction(out=out) if out is not None:
            values = _rows(out.extent, shape) * (instruction.reads[0].width if instruction.reads else out.width)
            return [Cost(0, _PER_VALUE.get(type(instruction), 0) * values)]
    return [Cost(0, 0)]


def product_cost(weight: CpuWeight, num_rows: int) -> Cost:
    """A product of `num_rows` rows with a matrix; nothing where no row asks for it."""
    outputs, inputs = weight.shape
    arithmetic = _KINDS[_kernels.act_kind(weight.format_number)]
    nbytes = tensor_nbytes(weight.format, (outputs, inputs)) if num_rows else 0
    return Cost(nbytes, 2 * num_rows * outputs * inputs, arithmetic)


def _attention(instruction: Attention, shape: StepShape) -> Cost:
    layout, window = instruction.kv.layout, instruction.window
    reads = visible = 0
    for tokens, context in shape.rows:
        reads += min(context, window + tokens - 1) if window else context
        first = context - tokens + 1  # keys that the row's first token sees
        visible += _sum_of_least(first, context, window)
    products = 4 * instruction.num_heads * layout.head_dim  # q.k and p.v, two operations each
    return Cost(reads * _token_bytes(layout), visible * products, _BY_KV.get(layout.dtype, "f32"))


def _sum_of_least(first: int, last: int, window: int) -> int:
    """min(first, window) + ... + min(last, window); window 0 is none."""
    if window and last > window:
        if first >= window:
            return (last - first + 1) * window
        return _sum_of_least(first, window, 0) + (last - window) * window
    return (first + last) * (last - first + 1) // 2


def _token_bytes(layout: KvLayout) -> int:
    """Bytes of a token's keys and values in one layer."""
    return layout.page_bytes // (layout.page_size * layout.layers_per_page)


def _rows(extent: str, shape: StepShape) -> int:
    return shape.num_tokens if extent == "tokens" else shape.num_samples
