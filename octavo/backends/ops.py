"""The contract between a model's forward and the backends: the whole vocabulary of a model, with exact meaning.

A forward is written once against `Ops`. `reference` runs it eagerly in NumPy and defines what is right; `cpu` records
it once and replays it in C++; `gpu` runs it in torch. No argument of an op is derived from a step: what a step
computes is in `StepInputs`, turned into an opaque meta by `Program.prepare`, so one program serves every step.

Legend: T tokens of the step, R rows (sequences) of the step, S positions whose logits are wanted, D hidden width,
H query heads, G key/value heads, hd head width, N outputs, K inputs, V vocabulary, P pages per table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from octavo.base.types import KvGroup
from octavo.weights.loader import HostTensor
from octavo.weights.tensor import TensorInfo

Value = Any  # an activation: ndarray (reference), recorded value (cpu), tensor (gpu)
Weight = Any  # what Backend.load returned; opaque to the model
KvLayer = Any  # one layer's share of a KvCache; opaque to the model
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]

Activation = Literal["silu", "gelu_tanh", "gelu", "relu"]
KvDtype = Literal["f32", "f16", "bf16", "int8"]
# Of a KV page: bytes of a number, and of what stands beside a token's numbers at one head: int8 has a float16 scale,
# max |x| / 127, and keeps round(x / scale).
KV_BYTES: Mapping[KvDtype, tuple[int, int]] = {"f32": (4, 0), "f16": (2, 0), "bf16": (2, 0), "int8": (1, 2)}


@dataclass(frozen=True)
class RopeSpec:
    """Rotary embedding: `inv_freq[i]` = the angle per position of pair i, all scaling rules already applied.

    Pair i of a head is (x[i], x[i + dim/2]) where dim = 2 * len(inv_freq) ("neox" order; families whose files store
    adjacent pairs are re-ordered at load). Components from dim to hd pass through. cos and sin are multiplied by
    `attention_factor` (YaRN). Source: Su et al. 2021, arXiv:2104.09864.
    """

    inv_freq: tuple[float, ...]
    attention_factor: float = 1.0


@dataclass(frozen=True)
class KvLayout:
    """How layers share one pool of equal pages.

    A page holds `page_size` tokens of K and V of `layers_per_page` layers of one group. Layer l lives in the pages of
    group `layer_group[l]`, at place `layer_place[l]` within them.
    """

    groups: tuple[KvGroup, ...]
    layer_group: tuple[int, ...]
    layer_place: tuple[int, ...]
    layers_per_page: int
    num_kv_heads: int
    head_dim: int
    dtype: KvDtype
    page_size: int

    @property
    def page_bytes(self) -> int:
        element, scale = KV_BYTES[self.dtype]
        return 2 * self.layers_per_page * self.num_kv_heads * self.page_size * (self.head_dim * element + scale)

    @property
    def bytes_per_token(self) -> int:
        """Bytes one token takes while every group keeps it."""
        return len(self.groups) * self.page_bytes // self.page_size


@dataclass(frozen=True)
class ProgramLimits:
    """Upper bounds that scratch memory is planned for."""

    max_tokens: int  # T
    max_rows: int  # R
    max_samples: int  # S
    max_context: int  # tokens of one sequence


@dataclass(frozen=True)
class StepInputs:
    """One step's facts, all C-contiguous int32.

    Token t of the step is `token_ids[t]` at absolute position `positions[t]`. Row r owns tokens
    [row_starts[r], row_starts[r + 1]), in rising position; its last token's position + 1 is `context_lens[r]`.
    `page_tables[g][r, p]` is the page that holds positions [p * page_size, (p + 1) * page_size) of row r in KV
    group g; -1 where a window group gave the page back or the table is padded. `sample_rows` are token indices.
    """

    token_ids: I32  # [T]
    positions: I32  # [T]
    row_starts: I32  # [R + 1]
    context_lens: I32  # [R]
    page_tables: tuple[I32, ...]  # per group [R, P]
    sample_rows: I32  # [S]


class Ops(Protocol):
    """The verbs. Activations are float32 row-major [rows, width]; backends may keep them narrower inside."""

    def embed(self, weight: Weight, *, scale: float = 1.0) -> Value:
        """[T, D]: row token_ids[t] of weight [V, D], times scale."""

    def rms_norm(self, x: Value, weight: Weight, *, eps: float, head_dim: int | None = None) -> Value:
        """x / sqrt(mean(x^2) + eps) * weight over the last axis; with head_dim, over each head's hd values with one
        weight [hd] for all heads. Source: Zhang and Sennrich 2019, arXiv:1910.07467."""

    def layer_norm(self, x: Value, weight: Weight, bias: Weight | None, *, eps: float) -> Value:
        """(x - mean) / sqrt(var + eps) * weight + bias. Source: Ba et al. 2016, arXiv:1607.06450."""

    def linear(self, x: Value, weight: Weight, bias: Weight | None = None) -> Value:
        """x [rows, K] times weight [N, K] transposed, plus bias [N]."""

    def rope(self, x: Value, rope: RopeSpec, *, head_dim: int) -> Value:
        """Rotates each head of x [T, heads * hd] by its token's position."""

    def store_kv(self, k: Value, v: Value, kv: KvLayer) -> None:
        """Writes k, v [T, G * hd] to the pages of their tokens' positions."""

    def attention(
        self,
        q: Value,
        kv: KvLayer,
        *,
        num_heads: int,
        scale: float,
        window: int | None = None,
        soft_cap: float | None = None,
        sinks: Weight | None = None,
    ) -> Value:
        """[T, H * hd]: causal attention of each token over its row's stored positions 0..position, after store_kv.

        Query head h reads key/value head h // (H / G). `window` w keeps the last w positions, the token's own
        included. `soft_cap` c maps a score s to c * tanh(s / c). `sinks` [H] adds exp(sinks[h]) to the softmax's
        denominator. Source: Vaswani et al. 2017; Ainslie et al. 2023 (GQA), arXiv:2305.13245.
        """

    def gated(self, gate: Value, up: Value, activation: Activation) -> Value:
        """activation(gate) * up. Source: Shazeer 2020, arXiv:2002.05202."""

    def activate(self, x: Value, activation: Activation) -> Value:
        """activation(x), element by element."""

    def add(self, a: Value, b: Value) -> Value:
        """a + b."""

    def scale(self, x: Value, factor: float) -> Value:
        """x * factor."""

    def gather_rows(self, x: Value) -> Value:
        """[S, D]: the rows sample_rows of x."""

    def logits(self, x: Value, weight: Weight, *, scale: float = 1.0, soft_cap: float | None = None) -> Value:
        """[S, V]: linear, times scale, then the soft cap."""


class KvCache(Protocol):
    """The pages of one backend. The layout inside a page is the backend's own."""

    @property
    def layers(self) -> Sequence[KvLayer]:
        """By layer index."""

    def zero_pages(self, pages: Sequence[int]) -> None:
        """Clears pages, so that masked keys add exact zeros."""

    def copy_pages(self, pairs: Sequence[tuple[int, int]]) -> None:
        """Copies page src to page dst, for each (src, dst)."""


class Program(Protocol):
    """A forward bound to weights, KV and limits."""

    @property
    def scratch_bytes(self) -> int: ...

    def prepare(self, inputs: StepInputs) -> Any:
        """Checks `inputs` against the limits and makes the opaque meta of one step."""

    def submit(self, meta: Any) -> None:
        """Starts a step on what works besides the calling thread, which is free until `join`.

        Until then the outputs of the step before are no longer valid, and KV pages of this step may not be touched.
        Raises RuntimeError where a step was submitted and not joined.
        """

    def join(self) -> Mapping[str, F32]:
        """The submitted step's outputs, once they are there; the calling thread takes part in computing them.

        Named outputs; "logits" is [S, V]. The arrays are valid until the next submit. Raises RuntimeError where no step
        was submitted.
        """

    def run(self, meta: Any) -> Mapping[str, F32]:
        """`submit`, then `join`."""


@dataclass(frozen=True)
class SampleRows:
    """Per-row controls of `Backend.sample`, all of length S.

    temperature 0 means greedy. top_k 0, top_p 1 and min_p 0 are off. Noise is a function of (seed, position) alone.
    """

    temperature: F32
    top_k: I32
    top_p: F32
    min_p: F32
    seeds: npt.NDArray[np.uint64]
    positions: I32  # of the token being sampled


NOTHING_LEFT, NOT_A_NUMBER = -1, -2  # in place of a sampled token


@dataclass(frozen=True)
class RowLogprobs:
    """Natural log-probabilities by row: of the chosen token, which is the `ranks`-th best (from 1, before its equals),
    and of the best, in falling order (equals: lower id first)."""

    values: F64  # [S]
    ranks: I32  # [S]
    top_ids: I32  # [S, K]
    top_values: F64  # [S, K]


Forward = Callable[[Ops, Mapping[str, Weight], Sequence[KvLayer]], Mapping[str, Value]]


class Backend(Protocol):
    """One kind of hardware (and way of running) on one device set. No global state: several may live in a process."""

    @property
    def name(self) -> str: ...

    @property
    def numerics(self) -> str:
        """What changes bits: backend and instruction set, e.g. "cpu-avx512_bf16"; never the number of threads."""

    def weight_bytes(self, info: TensorInfo) -> int:
        """Bytes the loaded form of a tensor takes, without loading it."""

    def reserve(self, infos: Iterable[TensorInfo]) -> None:
        """Announces tensors that are to be loaded next, so that they can lie together."""

    def load(self, tensor: HostTensor) -> Weight:
        """Packs one tensor: matrices in their own format, vectors as float32. Raises UnsupportedModelError for a
        format this backend has no kernel for."""

    def allocate_kv(self, layout: KvLayout, num_pages: int) -> KvCache: ...

    def scratch_bytes(self, forward: Forward, weights: Mapping[str, TensorInfo], layout: KvLayout,
                      limits: ProgramLimits) -> int:  # fmt: skip
        """Scratch a program of these limits will take, without loading weights."""

    def build(self, forward: Forward, weights: Mapping[str, Weight], kv: Any, limits: ProgramLimits) -> Program:
        """Binds a forward to weights and KV pages that this backend loaded and allocated."""

    def sample(self, logits: F32, rows: SampleRows) -> I32:
        """Token ids [S] from logits [S, V] that all sparse controls have already been applied to (disallowed tokens
        are -inf): temperature, then min_p, then top_k, then top_p, then the Gumbel-max draw; greedy rows take the
        first maximum. NOTHING_LEFT where every logit is -inf, NOT_A_NUMBER where one is a NaN. Exact definition:
        `octavo/backends/reference/sampling.py`."""

    def logprobs(self, logits: F32, tokens: I32, num_top: int) -> RowLogprobs:
        """Log-probabilities of tokens [S] under logits [S, V], and of the `num_top` best of each row (at most V). A row
        depends on nothing but its logits. Definition: `octavo/backends/reference/logprobs.py`."""

    def close(self) -> None: ...
