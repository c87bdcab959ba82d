"""The ops in NumPy, eager, float32: the meaning of `octavo.backends.ops`.

Every row is computed alone, in the same calls whatever the step holds besides, so that a row's bits never depend on
its neighbours here either. Legend as in the contract: T tokens, S samples, H and G heads, hd head width, K inputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from octavo.backends.ops import F32, Activation, RopeSpec, StepInputs
from octavo.backends.reference.kv import ReferenceKvLayer
from octavo.weights.formats import dequantize

_erf = np.vectorize(math.erf, otypes=[np.float64])


@dataclass(frozen=True)
class ReferenceWeight:
    """A tensor in its file's format: uint8 [rows, row bytes]. Values are expanded each time they are used."""

    format: str
    shape: tuple[int, ...]
    raw: npt.NDArray[np.uint8]

    def float32(self) -> F32:
        return dequantize(self.format, self.raw, self.shape)

    def rows(self, ids: npt.NDArray[np.int32]) -> F32:
        return dequantize(self.format, self.raw[ids], (len(ids), *self.shape[1:]))


@dataclass(frozen=True)
class StepMeta:
    """One checked step."""

    inputs: StepInputs

    @cached_property
    def row_of_token(self) -> npt.NDArray[np.int64]:
        """[T]: the row that owns each token."""
        return np.repeat(np.arange(len(self.inputs.context_lens)), np.diff(self.inputs.row_starts))


class ReferenceOps:
    """The verbs, bound to one step."""

    def __init__(self, meta: StepMeta) -> None:
        self._meta = meta
        self._inputs = meta.inputs

    def embed(self, weight: ReferenceWeight, *, scale: float = 1.0) -> F32:
        return weight.rows(self._inputs.token_ids) * scale

    def rms_norm(self, x: F32, weight: ReferenceWeight, *, eps: float, head_dim: int | None = None) -> F32:
        groups = x.reshape(len(x), -1, head_dim or x.shape[1])
        mean = np.mean(groups * groups, axis=-1, keepdims=True, dtype=np.float32)
        root: F32 = np.sqrt(mean + eps)
        return (groups / root * weight.float32()).reshape(x.shape)

    def layer_norm(self, x: F32, weight: ReferenceWeight, bias: ReferenceWeight | None, *, eps: float) -> F32:
        centred = x - np.mean(x, axis=-1, keepdims=True, dtype=np.float32)
        variance = np.mean(centred * centred, axis=-1, keepdims=True, dtype=np.float32)
        root: F32 = np.sqrt(variance + eps)
        normed = centred / root * weight.float32()
        return normed if bias is None else normed + bias.float32()

    def linear(self, x: F32, weight: ReferenceWeight, bias: ReferenceWeight | None = None) -> F32:
        matrix = weight.float32()
        out = np.empty((len(x), len(matrix)), np.float32)
        for row, inputs in enumerate(x):
            out[row] = matrix @ inputs
        return out if bias is None else out + bias.float32()

    def rope(self, x: F32, rope: RopeSpec, *, head_dim: int) -> F32:
        """The angle is rounded to float32, as in the implementations that models were trained with."""
        half = len(rope.inv_freq)
        angles = self._inputs.positions.astype(np.float32)[:, None] * np.array(rope.inv_freq, np.float32)
        wide = angles.astype(np.float64)
        cos = (np.cos(wide) * rope.attention_factor).astype(np.float32)[:, None, :]
        sin = (np.sin(wide) * rope.attention_factor).astype(np.float32)[:, None, :]
        heads = x.reshape(len(x), -1, head_dim)
        out = heads.copy()
        first, second = heads[..., :half], heads[..., half : 2 * half]
        out[..., :half] = first * cos - second * sin
        out[..., half : 2 * half] = second * cos + first * sin
        return out.reshape(x.shape)

    def store_kv(self, k: F32, v: F32, kv: ReferenceKvLayer) -> None:
        layout = kv.cache.layout
        shape = (len(k), layout.num_kv_heads, layout.head_dim)
        tables = self._inputs.page_tables[kv.group]
        of_tokens = zip(
            self._meta.row_of_token, self._inputs.positions, k.reshape(shape), v.reshape(shape), strict=True
        )
        for row, position, k_token, v_token in of_tokens:
            kv.store(tables[row], int(position), k_token, v_token)

    def attention(
        self,
        q: F32,
        kv: ReferenceKvLayer,
        *,
        num_heads: int,
        scale: float,
        window: int | None = None,
        soft_cap: float | None = None,
        sinks: ReferenceWeight | None = None,
    ) -> F32:
        layout = kv.cache.layout
        grouped = q.reshape(len(q), layout.num_kv_heads, num_heads // layout.num_kv_heads, layout.head_dim)
        sink = None if sinks is None else sinks.float32().reshape(layout.num_kv_heads, -1, 1)
        out = np.empty_like(grouped)
        starts, positions = self._inputs.row_starts, self._inputs.positions
        for row, table in enumerate(self._inputs.page_tables[kv.group]):
            begin, end = int(starts[row]), int(starts[row + 1])
            if begin == end:
                continue
            first = _first_seen(int(positions[begin]), window)
            k, v = kv.read(table, first, int(positions[end - 1]) + 1)
            for t in range(begin, end):
                position = int(positions[t])
                seen = slice(_first_seen(position, window) - first, position + 1 - first)
                out[t] = _attend(grouped[t], k[:, seen], v[:, seen], scale, soft_cap, sink)
        return out.reshape(q.shape)

    def gated(self, gate: F32, up: F32, activation: Activation) -> F32:
        return self.activate(gate, activation) * up

    def activate(self, x: F32, activation: Activation) -> F32:
        return _ACTIVATIONS[activation](x)

    def add(self, a: F32, b: F32) -> F32:
        return a + b

    def scale(self, x: F32, factor: float) -> F32:
        return x * factor

    def gather_rows(self, x: F32) -> F32:
        return x[self._inputs.sample_rows]

    def logits(self, x: F32, weight: ReferenceWeight, *, scale: float = 1.0, soft_cap: float | None = None) -> F32:
        out = self.linear(x, weight) * scale
        return out if soft_cap is None else _capped(out, soft_cap)


def _first_seen(position: int, window: int | None) -> int:
    return 0 if window is None else max(0, position - window + 1)


def _attend(q: F32, k: F32, v: F32, scale: float, soft_cap: float | None, sink: F32 | None) -> F32:
    """One token: q [G, H / G, hd] over its own keys and values [G, L, hd]."""
    scores = np.matmul(q * scale, k.transpose(0, 2, 1))  # [G, H / G, L]
    if soft_cap is not None:
        scores = _capped(scores, soft_cap)
    largest = scores.max(axis=-1, keepdims=True)
    if sink is not None:
        largest = np.maximum(largest, sink)
    p = np.exp(scores - largest)
    total: F32 = p.sum(axis=-1, keepdims=True)
    if sink is not None:
        total = total + np.exp(sink - largest)
    mixed: F32 = np.matmul(p, v)
    return mixed / total


def _capped(x: F32, cap: float) -> F32:
    capped: F32 = cap * np.tanh(x / cap)
    return capped


def _silu(x: F32) -> F32:
    with np.errstate(over="ignore"):  # exp(-x) = inf gives the right 0
        result: F32 = x / (1 + np.exp(-x))
    return result


def _gelu_tanh(x: F32) -> F32:
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
    result: F32 = 0.5 * x * (1 + np.tanh(inner))
    return result


def _gelu(x: F32) -> F32:
    erf: F32 = _erf(x / math.sqrt(2)).astype(np.float32)
    return 0.5 * x * (1 + erf)


def _relu(x: F32) -> F32:
    positive: F32 = np.maximum(x, 0)
    return positive


_ACTIVATIONS = {"silu": _silu, "gelu_tanh": _gelu_tanh, "gelu": _gelu, "relu": _relu}
