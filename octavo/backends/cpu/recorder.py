"""The recorder: `Ops` that append instructions instead of computing.

Checks widths, quantizes each activation once per kind of weight, makes each rope table once. Knows nothing of stages
and buffers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from octavo import _kernels
from octavo.backends.cpu.graph import (
    Activate,
    Add,
    Attention,
    Embed,
    Extent,
    Gated,
    Gather,
    Instruction,
    LayerNorm,
    Linear,
    Quantize,
    RmsNorm,
    Rope,
    RopeTable,
    Scale,
    StoreKv,
    Value,
    aligned,
)
from octavo.backends.cpu.kv import CpuKvLayer
from octavo.backends.cpu.weights import CpuWeight
from octavo.backends.ops import Activation, Forward, RopeSpec

_FLOAT_BYTES = 4
_PLAIN = 0  # the kind of products that read floats as they are


@dataclass(frozen=True)
class Recording:
    """A forward as instructions, in the order they were called, and its named outputs."""

    instructions: tuple[Instruction, ...]
    outputs: Mapping[str, Value]
    vocab_size: int


def record(forward: Forward, weights: Mapping[str, CpuWeight], kv: Sequence[CpuKvLayer]) -> Recording:
    """Calls the forward once. Raises ValueError where widths of its operands do not fit."""
    recorder = Recorder()
    outputs = forward(recorder, weights, kv)
    return Recording(tuple(recorder.instructions), dict(outputs), recorder.vocab_size)


@dataclass
class Recorder:
    """Implements `Ops`; the values it hands out are `graph.Value`."""

    instructions: list[Instruction] = field(default_factory=list)
    vocab_size: int = 2**31 - 1  # of the smallest embedding
    _num_values: int = 0
    _quantized: dict[tuple[int, int], Value] = field(default_factory=dict)
    _tables: dict[RopeSpec, Value] = field(default_factory=dict)

    def embed(self, weight: CpuWeight, *, scale: float = 1.0) -> Value:
        rows, width = weight.shape
        self.vocab_size = min(self.vocab_size, rows)
        out = self._floats("tokens", width)
        self.instructions.append(Embed(out, weight, scale))
        return out

    def rms_norm(self, x: Value, weight: CpuWeight, *, eps: float, head_dim: int | None = None) -> Value:
        width = head_dim or x.width
        _check(x.width % width == 0 and weight.shape == (width,), "rms_norm", x, weight)
        out = self._like(x)
        self.instructions.append(RmsNorm(out, x, weight, eps, width))
        return out

    def layer_norm(self, x: Value, weight: CpuWeight, bias: CpuWeight | None, *, eps: float) -> Value:
        _check(weight.shape == (x.width,), "layer_norm", x, weight)
        _check(bias is None or bias.shape == (x.width,), "layer_norm", x, weight)
        out = self._like(x)
        self.instructions.append(LayerNorm(out, x, weight, bias, eps))
        return out

    def linear(self, x: Value, weight: CpuWeight, bias: CpuWeight | None = None) -> Value:
        return self._product(x, weight, bias, 1.0, 0.0)

    def rope(self, x: Value, rope: RopeSpec, *, head_dim: int) -> Value:
        half = len(rope.inv_freq)
        if x.width % head_dim or 2 * half > head_dim or half == 0:
            raise ValueError(f"rope: {half} pairs do not fit heads of {head_dim} in a row of {x.width}")
        table = self._tables.get(rope)
        if table is None:
            table = self._tables[rope] = self._value("tokens", 2 * half, 2 * half * _FLOAT_BYTES)
            self.instructions.append(RopeTable(table, rope))
        out = self._like(x)
        self.instructions.append(Rope(out, x, table, half, head_dim))
        return out

    def store_kv(self, k: Value, v: Value, kv: CpuKvLayer) -> None:
        width = kv.layout.num_kv_heads * kv.layout.head_dim
        if (k.width, v.width) != (width, width):
            raise ValueError(f"store_kv: keys of {k.width} and values of {v.width} for a cache of {width}")
        self.instructions.append(StoreKv(None, k, v, kv))

    def attention(
        self,
        q: Value,
        kv: CpuKvLayer,
        *,
        num_heads: int,
        scale: float,
        window: int | None = None,
        soft_cap: float | None = None,
        sinks: CpuWeight | None = None,
    ) -> Value:
        if q.width != num_heads * kv.layout.head_dim or num_heads % kv.layout.num_kv_heads:
            raise ValueError(
                f"attention: {num_heads} heads of {kv.layout.head_dim} in a row of {q.width}, "
                f"over {kv.layout.num_kv_heads} key/value heads"
            )
        _check(sinks is None or sinks.shape == (num_heads,), "attention", q, sinks)
        out = self._like(q)
        self.instructions.append(Attention(out, q, kv, num_heads, scale, window or 0, soft_cap or 0.0, sinks))
        return out

    def gated(self, gate: Value, up: Value, activation: Activation) -> Value:
        out = self._like(gate, up)
        self.instructions.append(Gated(out, gate, up, activation))
        return out

    def activate(self, x: Value, activation: Activation) -> Value:
        out = self._like(x)
        self.instructions.append(Activate(out, x, activation))
        return out

    def add(self, a: Value, b: Value) -> Value:
        out = self._like(a, b)
        self.instructions.append(Add(out, a, b))
        return out

    def scale(self, x: Value, factor: float) -> Value:
        out = self._like(x)
        self.instructions.append(Scale(out, x, factor))
        return out

    def gather_rows(self, x: Value) -> Value:
        if x.extent != "tokens":
            raise ValueError("gather_rows reads rows of tokens")
        out = self._floats("samples", x.width)
        self.instructions.append(Gather(out, x))
        return out

    def logits(self, x: Value, weight: CpuWeight, *, scale: float = 1.0, soft_cap: float | None = None) -> Value:
        return self._product(x, weight, None, scale, soft_cap or 0.0)

    def _product(self, x: Value, weight: CpuWeight, bias: CpuWeight | None, factor: float, soft_cap: float) -> Value:
        _check(len(weight.shape) == 2 and weight.shape[1] == x.width, "linear", x, weight)
        _check(bias is None or bias.shape == weight.shape[:1], "linear", x, bias)
        out = self._floats(x.extent, weight.shape[0])
        act = self._activations(x, _kernels.act_kind(weight.format_number))
        self.instructions.append(Linear(out, act, weight, bias, factor, soft_cap))
        return out

    def _activations(self, x: Value, kind: int) -> Value:
        if kind == _PLAIN:
            return x
        act = self._quantized.get((x.index, kind))
        if act is None:
            act = self._value(x.extent, x.width, _kernels.act_bytes(kind, x.width))
            self._quantized[x.index, kind] = act
            self.instructions.append(Quantize(act, x, kind))
        return act

    def _value(self, extent: Extent, width: int, row_bytes: int) -> Value:
        self._num_values += 1
        return Value(self._num_values - 1, extent, width, row_bytes)

    def _floats(self, extent: Extent, width: int) -> Value:
        return self._value(extent, width, aligned(width * _FLOAT_BYTES))

    def _like(self, x: Value, other: Value | None = None) -> Value:
        if other is not None and (other.extent, other.width) != (x.extent, x.width):
            raise ValueError(f"operands of {x.width} {x.extent} and {other.width} {other.extent} do not match")
        return self._floats(x.extent, x.width)


def _check(holds: bool, op: str, x: Value, weight: CpuWeight | None) -> None:
    if not holds and weight is not None:
        raise ValueError(f"{op}: {weight.name} {weight.shape} does not fit a row of {x.width}")
