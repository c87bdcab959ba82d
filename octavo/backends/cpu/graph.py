"""What a recorded forward is made of: values and the instructions that make them.

An instruction names what it reads and makes, and can emit its kernel call once buffers are known. Which instructions
share a stage and where values lie is the planner's business.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from octavo import _kernels
from octavo.backends.cpu.kv import CpuKvLayer
from octavo.backends.cpu.weights import CpuWeight
from octavo.backends.ops import Activation, RopeSpec

Extent = Literal["tokens", "samples"]
ACTIVATIONS: dict[Activation, int] = {"silu": 0, "gelu_tanh": 1, "gelu": 2, "relu": 3}
ALIGNMENT = 64


@dataclass(frozen=True, eq=False)
class Value:
    """Rows of `extent`, `width` values each; `row_bytes` apart unless it becomes an output of the program."""

    index: int
    extent: Extent
    width: int
    row_bytes: int


Place = Callable[[Value], _kernels.Buffer]


@dataclass(frozen=True, eq=False)
class Instruction:
    """Makes `out` (None: acts on the KV pages) out of `reads`."""

    out: Value | None

    # Operands of the same row whose memory `out` may take over when nobody reads them afterwards.
    in_place: ClassVar[tuple[str, ...]] = ()

    @property
    def reads(self) -> tuple[Value, ...]:
        return tuple(value for name, value in vars(self).items() if isinstance(value, Value) and name != "out")


@dataclass(frozen=True, eq=False)
class RowInstruction(Instruction):
    """Row r of `out` depends on row r of `reads` alone."""

    def emit(self, chain: _kernels.RowChain, at: Place) -> None:
        raise NotImplementedError

    @property
    def extent(self) -> Extent:
        value = self.out if self.out is not None else self.reads[0]
        return value.extent


@dataclass(frozen=True, eq=False)
class Embed(RowInstruction):
    out: Value
    weight: CpuWeight
    scale: float

    def emit(self, chain: _kernels.RowChain, at: Place) -> None:
        chain.embed(at(self.out), _matrix(self.weight), self.scale)


@dataclass(frozen=True, eq=False)
class RmsNorm(RowInstruction):
    out: Value
    x: Value
    weight: CpuWeight
    eps: float
    width: int  # of one group: the row, or a head
    in_place: ClassVar[tuple[str, ...]] = ("x",)

    def emit(self, chain: _kernels.RowChain, at: Place) -> None:
        groups = self.x.width // self.width
        chain.rms_norm(at(self.x), at(self.out), _vector(self.weight), self.eps, groups, self.width)


@dataclass(frozen=True, eq=False)
class LayerNorm(RowInstruction):
    out: Value
    x: Value
    weight: CpuWeight
    bias: CpuWeight | None
    eps: float
    in_place: ClassVar[tuple[str, ...]] = ("x",)

    def emit(self, chain: _kernels.RowChain, at: Place) -> None:
        bias = None if self.bias is None else _vector(self.bias)
        chain.layer_norm(at(self.x), at(self.out), _vector(self.weight), bias, self.eps, self.x.width)


@dataclass(frozen=True, eq=False)
class Quantize(RowInstruction):
    """Activations in the form that products of one kind of weight read."""

    out: Value
    x: Value
    kind: int

    def emit(self, chain: _kernels.RowChain, at: Place) -> None:
        chain.quantize(at(self.x), at(self.out), self.kind, self.x.width)


@dataclass(frozen=True, eq=False)
class RopeTable(RowInstruction):
    """Cosines and sines of the step's positions, once for all layers that share a RopeSpec."""

    out: Value
    spec: RopeSpec

    def emit(self, chain: _kernels.RowChain, at: Place) -> None:
        chain.rope_table(at(self.out), list(self.spec.inv_freq), self.spec.attention_factor)


@dataclass(frozen=True, eq=False)
class Rope(RowInstruction):
    out: Value
    x: Value
    table: Value
    half: int
    head_dim: int
    in_place: ClassVar[tuple[str, ...]] = ("x",)

    def emit(self, chain: _kernels.RowChain, at: Place) -> None:
        heads = self.x.width // self.head_dim
        chain.rope(at(self.x), at(self.table), at(self.out), self.half, heads, self.head_dim)


@dataclass(frozen=True, eq=False)
class StoreKv(RowInstruction):
    k: Value
    v: Value
    kv: CpuKvLayer

    def emit(self, chain: _kernels.RowChain, at: Place) -> None:
        chain.store_kv(at(self.k), at(self.v), _pages(self.kv), self.kv.place, self.kv.group)


@dataclass(frozen=True, eq=False)
class Gated(RowInstruction):
    out: Value
    gate: Value
    up: Value
    activation: Activation
    in_place: ClassVar[tuple[str, ...]] = ("gate", "up")

    def emit(self, chain: _kernels.RowChain, at: Place) -> None:
        chain.gated(at(self.gate), at(self.up), at(self.out), self.out.width, ACTIVATIONS[self.activation])


@dataclass(frozen=True, eq=False)
class Activate(RowInstruction):
    out: Value
    x: Value
    activation: Activation
    in_place: ClassVar[tuple[str, ...]] = ("x",)

    def emit(self, chain: _kernels.RowChain, at: Place) -> None:
        chain.activate(at(self.x), at(self.out), self.out.width, ACTIVATIONS[self.activation])


@dataclass(frozen=True, eq=False)
class Add(RowInstruction):
    out: Value
    a: Value
    b: Value
    in_place: ClassVar[tuple[str, ...]] = ("a", "b")

    def emit(self, chain: _kernels.RowChain, at: Place) -> None:
        chain.add(at(self.a), at(self.b), at(self.out), self.out.width)


@dataclass(frozen=True, eq=False)
class Scale(RowInstruction):
    out: Value
    x: Value
    factor: float
    in_place: ClassVar[tuple[str, ...]] = ("x",)

    def emit(self, chain: _kernels.RowChain, at: Place) -> None:
        chain.scale(at(self.x), at(self.out), self.factor, self.out.width)


@dataclass(frozen=True, eq=False)
class Gather(RowInstruction):
    """The sampled rows: reads rows of tokens, makes rows of samples."""

    out: Value
    x: Value

    def emit(self, chain: _kernels.RowChain, at: Place) -> None:
        chain.gather(at(self.x), at(self.out), self.out.width)


@dataclass(frozen=True, eq=False)
class Linear(Instruction):
    """A product; with `add_to`, `out` takes over that value's memory and the product is added to it."""

    out: Value
    act: Value
    weight: CpuWeight
    bias: CpuWeight | None = None
    factor: float = 1.0
    soft_cap: float = 0.0
    add_to: Value | None = None

    def emit(self, batch: _kernels.LinearBatch, at: Place) -> None:
        bias = None if self.bias is None else _vector(self.bias)
        add = self.add_to is not None
        batch.product(_matrix(self.weight), at(self.act), at(self.out), add, bias, self.factor, self.soft_cap)


@dataclass(frozen=True, eq=False)
class GatedLinear(Instruction):
    """activation(gate product) * up product, quantized to `kind` (0: floats), without a way through memory."""

    out: Value
    act: Value
    gate: Linear
    up: Linear
    activation: Activation
    kind: int

    def emit(self, program: _kernels.Program, extent: int, at: Place) -> None:
        biases = [None if part.bias is None else _vector(part.bias) for part in (self.gate, self.up)]
        gate, up = _matrix(self.gate.weight), _matrix(self.up.weight)
        activation = ACTIVATIONS[self.activation]
        program.add_gated(extent, gate, up, at(self.act), at(self.out), biases[0], biases[1], activation, self.kind)


@dataclass(frozen=True, eq=False)
class Attention(Instruction):
    out: Value
    q: Value
    kv: CpuKvLayer
    num_heads: int
    scale: float
    window: int
    soft_cap: float
    sinks: CpuWeight | None

    def emit(self, program: _kernels.Program, at: Place, partials: _kernels.Buffer) -> None:
        program.add_attention(
            at(self.q),
            at(self.out),
            _pages(self.kv),
            self.kv.place,
            self.kv.group,
            self.num_heads,
            self.window,
            self.scale,
            self.soft_cap,
            None if self.sinks is None else _vector(self.sinks),
            partials,
        )


def aligned(nbytes: int) -> int:
    """Bytes rounded up to a cache line."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _matrix(weight: CpuWeight) -> _kernels.Matrix:
    if weight.matrix is None:
        raise ValueError(f"{weight.name} is no loaded matrix")
    return weight.matrix


def _vector(weight: CpuWeight) -> _kernels.Vector:
    if weight.vector is None:
        raise ValueError(f"{weight.name} is no loaded vector")
    return weight.vector


def _pages(kv: CpuKvLayer) -> _kernels.KvPages:
    if kv.pages is None:
        raise ValueError("the KV cache has no pages")
    return kv.pages
