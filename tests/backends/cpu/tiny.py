"""A small decoder over random weights of any format, for tests of the CPU backend alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from octavo.backends.cpu import CpuBackend
from octavo.backends.cpu.planner import Fusion
from octavo.backends.ops import (
    F32,
    Backend,
    Forward,
    KvLayer,
    KvLayout,
    Ops,
    Program,
    ProgramLimits,
    RopeSpec,
    Value,
    Weight,
)  # fmt: skip
from octavo.base.types import KvGroup
from octavo.weights.geometry import GEOMETRY
from octavo.weights.loader import HostTensor
from octavo.weights.tensor import TensorInfo
from tests.models.harness import step_inputs

FORMATS = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]
HIDDEN, HEADS, KV_HEADS, HEAD_DIM, INNER, VOCAB, LAYERS = 256, 4, 2, 64, 512, 290, 2
ROPE = RopeSpec(tuple(1e4 ** (-i / 24) for i in range(24)))
SHAPES = {
    "q": (HEADS * HEAD_DIM, HIDDEN),
    "k": (KV_HEADS * HEAD_DIM, HIDDEN),
    "v": (KV_HEADS * HEAD_DIM, HIDDEN),
    "o": (HIDDEN, HEADS * HEAD_DIM),
    "gate": (INNER, HIDDEN),
    "up": (INNER, HIDDEN),
    "down": (HIDDEN, INNER),
}


# Where blocks keep half floats, and values for them that make weights of a usable size out of random bits.
HALVES: dict[str, dict[int, float]] = {
    "Q8_0": {0: 0.001},
    "Q4_0": {0: 0.014},
    "Q4_1": {0: 0.014, 2: -0.1},
    "Q5_0": {0: 0.007},
    "Q5_1": {0: 0.007, 2: -0.1},
    "Q2_K": {80: 0.006, 82: 0.009},
    "Q3_K": {108: 0.0015},
    "Q4_K": {0: 0.0003, 2: 0.0022},
    "Q5_K": {0: 0.00015, 2: 0.0022},
    "Q6_K": {208: 0.00005},
}


def random_matrix(rng: np.random.Generator, name: str, shape: tuple[int, int], format: str) -> HostTensor:
    """Values of about 1 / sqrt(256); block formats get random bits in every field."""
    if format not in HALVES:
        return HostTensor.from_float32(name, _normal(rng, *shape) / np.float32(16), format)
    geometry = GEOMETRY[format]
    raw = rng.integers(0, 256, (shape[0], shape[1] // geometry.length, geometry.nbytes), dtype=np.uint8)
    for at, value in HALVES[format].items():
        halves = (value * rng.uniform(0.5, 1.5, raw.shape[:2])).astype(np.float16)
        raw[..., at : at + 2] = halves[..., None].view(np.uint8)
    raw = raw.reshape(shape[0], -1)
    return HostTensor(TensorInfo(name, shape, format, raw.nbytes), (raw,))


def tensors(format: str) -> dict[str, HostTensor]:
    """Weights of two layers; matrices in `format`."""
    rng = np.random.default_rng(1)
    found = {"embed": random_matrix(rng, "embed", (VOCAB, HIDDEN), format)}
    for layer in range(LAYERS):
        for name, shape in SHAPES.items():
            found[f"{layer}.{name}"] = random_matrix(rng, f"{layer}.{name}", shape, format)
        for name in ("norm", "ffn_norm", "q_bias"):
            found[f"{layer}.{name}"] = HostTensor.from_float32(f"{layer}.{name}", 1 + _normal(rng, HIDDEN) / 10)
    found["up_bias"] = HostTensor.from_float32("up_bias", _normal(rng, INNER))
    return found


def forward(ops: Ops, weights: Mapping[str, Weight], kv: Sequence[KvLayer]) -> Mapping[str, Value]:
    """Outputs: the logits and, to show that outputs may lie in the middle, the first layer's hidden state."""
    x = ops.embed(weights["embed"], scale=8.0)
    hidden = x
    for layer in range(LAYERS):
        w = {name: weights[f"{layer}.{name}"] for name in (*SHAPES, "norm", "ffn_norm", "q_bias")}
        h = ops.rms_norm(x, w["norm"], eps=1e-5)
        q = ops.rope(ops.linear(h, w["q"], w["q_bias"]), ROPE, head_dim=HEAD_DIM)
        k = ops.rope(ops.linear(h, w["k"]), ROPE, head_dim=HEAD_DIM)
        ops.store_kv(k, ops.linear(h, w["v"]), kv[layer])
        window = 40 if layer == 1 else None
        a = ops.attention(q, kv[layer], num_heads=HEADS, scale=0.125, window=window)
        x = ops.add(x, ops.linear(a, w["o"]))
        h = ops.rms_norm(x, w["ffn_norm"], eps=1e-5)
        gated = ops.gated(ops.linear(h, w["gate"]), ops.linear(h, w["up"]), "silu")
        x = ops.add(ops.linear(gated, w["down"]), x)
        hidden = x if layer == 0 else hidden
    logits = ops.logits(ops.gather_rows(x), weights["embed"], scale=0.5, soft_cap=9.0)
    return {"logits": logits, "hidden": hidden}


def layout(page_size: int = 16) -> KvLayout:
    return KvLayout(
        (KvGroup("all"),), (0,) * LAYERS, tuple(range(LAYERS)), LAYERS, KV_HEADS, HEAD_DIM, "f16", page_size
    )


@dataclass(frozen=True)
class Tiny:
    """A loaded decoder and its pages."""

    backend: Backend
    weights: Mapping[str, Weight]

    def program(
        self, limits: ProgramLimits, num_pages: int, body: Forward = forward, fusions: frozenset[Fusion] | None = None
    ) -> Program:
        """`fusions` are another choice than the backend's, which is a CpuBackend then."""
        backend = self.backend
        if fusions is not None:
            assert isinstance(backend, CpuBackend)
            backend = CpuBackend(isa=backend.isa, pool=backend.pool, fusions=fusions)
        kv = backend.allocate_kv(layout(), num_pages)
        kv.zero_pages(range(num_pages))
        return backend.build(body, self.weights, kv, limits)


def load(backend: Backend, format: str) -> Tiny:
    return Tiny(backend, {name: backend.load(tensor) for name, tensor in tensors(format).items()})


def run_chunks(
    program: Program, tokens: Sequence[Sequence[int]], chunk: Callable[[int], int], output: str = "logits"
) -> list[F32]:
    """The output's rows of every sequence, all computed side by side; step s takes `chunk(s)` tokens of each."""
    pages = -(-max(len(t) for t in tokens) // 16)
    tables = np.arange(len(tokens) * pages, dtype=np.int32).reshape(len(tokens), pages)
    found: list[list[F32]] = [[] for _ in tokens]
    start, step = 0, 0
    while live := [i for i, own in enumerate(tokens) if len(own) > start]:
        end = start + chunk(step)
        parts = [tokens[i][start:end] for i in live]
        meta = program.prepare(step_inputs(parts, [start] * len(live), [tables[live]]))
        rows = np.array(program.run(meta)[output])
        for i, part in zip(live, parts, strict=True):
            found[i].append(rows[: len(part)])
            rows = rows[len(part) :]
        start, step = end, step + 1
    return [np.concatenate(parts) for parts in found]


def random_tokens(seed: int, *lengths: int) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, VOCAB, length).tolist() for length in lengths]


def _normal(rng: np.random.Generator, *shape: int) -> F32:
    return rng.standard_normal(shape).astype(np.float32)
