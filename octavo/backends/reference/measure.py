"""How much memory a step of the reference backend takes: the forward is run on shapes instead of arrays.

NumPy frees an activation when its last name goes, so the live set is followed by the same rule. Knows what each op
of `ops` holds besides its result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from octavo.backends.ops import Activation, Forward, KvLayout, ProgramLimits, RopeSpec
from octavo.weights.tensor import TensorInfo

_FLOAT_BYTES = 4


class _Meter:
    """Bytes alive now, and the most there were."""

    def __init__(self) -> None:
        self.live = 0
        self.peak = 0

    def take(self, nbytes: int) -> None:
        self.live += nbytes
        self.peak = max(self.peak, self.live)

    def give(self, nbytes: int) -> None:
        self.live -= nbytes


class _Shape:
    """An activation [rows, width] without values."""

    def __init__(self, meter: _Meter, rows: int, width: int) -> None:
        self.rows, self.width = rows, width
        self._meter = meter
        meter.take(self.nbytes)

    @property
    def nbytes(self) -> int:
        return self.rows * self.width * _FLOAT_BYTES

    def __del__(self) -> None:
        self._meter.give(self.nbytes)


class MeasuringOps:
    """The verbs on shapes, at the largest step."""

    def __init__(self, layout: KvLayout, limits: ProgramLimits) -> None:
        self._layout = layout
        self._limits = limits
        self._meter = _Meter()

    @property
    def peak_bytes(self) -> int:
        return self._meter.peak

    def _result(self, rows: int, width: int, extra_bytes: int = 0) -> _Shape:
        self._meter.take(extra_bytes)
        shape = _Shape(self._meter, rows, width)
        self._meter.give(extra_bytes)
        return shape

    def _like(self, x: _Shape, extra_arrays: int = 1) -> _Shape:
        return self._result(x.rows, x.width, extra_arrays * x.nbytes)

    def embed(self, weight: TensorInfo, *, scale: float = 1.0) -> _Shape:
        rows, width = self._limits.max_tokens, weight.shape[1]
        return self._result(rows, width, rows * width * _FLOAT_BYTES)

    def rms_norm(self, x: _Shape, weight: TensorInfo, *, eps: float, head_dim: int | None = None) -> _Shape:
        return self._like(x, 2)

    def layer_norm(self, x: _Shape, weight: TensorInfo, bias: TensorInfo | None, *, eps: float) -> _Shape:
        return self._like(x, 3)

    def linear(self, x: _Shape, weight: TensorInfo, bias: TensorInfo | None = None) -> _Shape:
        rows, width = x.rows, weight.shape[0]
        expanded = math.prod(weight.shape) * _FLOAT_BYTES
        return self._result(rows, width, expanded + (rows * width * _FLOAT_BYTES if bias is not None else 0))

    def rope(self, x: _Shape, rope: RopeSpec, *, head_dim: int) -> _Shape:
        return self._like(x, 3)

    def store_kv(self, k: _Shape, v: _Shape, kv: int) -> None:
        return None

    def attention(
        self,
        q: _Shape,
        kv: int,
        *,
        num_heads: int,
        scale: float,
        window: int | None = None,
        soft_cap: float | None = None,
        sinks: TensorInfo | None = None,
    ) -> _Shape:
        keys = self._limits.max_context
        if window is not None:
            keys = min(keys, window + self._limits.max_tokens)
        gathered = 4 * self._layout.num_kv_heads * self._layout.head_dim  # pages and float32 copies of K and V
        scores = 4 * num_heads
        return self._result(q.rows, q.width, q.nbytes + keys * (gathered + scores) * _FLOAT_BYTES)

    def gated(self, gate: _Shape, up: _Shape, activation: Activation) -> _Shape:
        return self._like(gate, 4)

    def activate(self, x: _Shape, activation: Activation) -> _Shape:
        return self._like(x, 4)

    def add(self, a: _Shape, b: _Shape) -> _Shape:
        return self._like(a, 0)

    def scale(self, x: _Shape, factor: float) -> _Shape:
        return self._like(x, 0)

    def gather_rows(self, x: _Shape) -> _Shape:
        return self._result(self._limits.max_samples, x.width)

    def logits(self, x: _Shape, weight: TensorInfo, *, scale: float = 1.0, soft_cap: float | None = None) -> _Shape:
        rows, width = x.rows, weight.shape[0]
        expanded = math.prod(weight.shape) * _FLOAT_BYTES
        return self._result(rows, width, expanded + 2 * rows * width * _FLOAT_BYTES)


def scratch_bytes(forward: Forward, weights: Mapping[str, TensorInfo], layout: KvLayout, limits: ProgramLimits) -> int:
    """Bytes that the largest step holds at once besides weights and KV."""
    ops = MeasuringOps(layout, limits)
    layers: Sequence[int] = range(len(layout.layer_group))
    forward(ops, weights, layers)
    return ops.peak_bytes
