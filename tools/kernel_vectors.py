"""python -m tools.kernel_vectors FILE: inputs and outputs of the reference backend for the kernels' own test program.

`csrc/tests/vectors_test.cpp` runs every instruction-set level of its machine against the file, without Python: natively
or under an emulator. The file is a line "octavo-vectors 1", then cases: a line "case OP key=value ...", then arrays,
each a line "TYPE NAME COUNT" (f32, i32, u8) followed by the raw little-endian values and a newline.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from octavo.backends.ops import F32, KvLayout, RopeSpec, SampleRows, StepInputs
from octavo.backends.reference import ReferenceBackend
from octavo.backends.reference.kv import ReferenceKv
from octavo.backends.reference.ops import ReferenceOps, ReferenceWeight, StepMeta
from octavo.base.types import KvGroup
from octavo.weights.geometry import GEOMETRY
from octavo.weights.loader import HostTensor
from octavo.weights.tensor import TensorInfo

Array = npt.NDArray[np.float32] | npt.NDArray[np.int32] | npt.NDArray[np.uint8]

SCALE_PLACES = {
    "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,), "Q2_K": (80, 82), "Q3_K": (108,),
    "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,),
}  # fmt: skip
"""Where the float16 scales of a block lie; its other bits may be anything."""

FLOATS = ("F32", "F16", "BF16")
ROWS, OUTPUTS = 17, 40
TYPES = {"float32": "f32", "int32": "i32", "uint8": "u8"}


@dataclass(frozen=True)
class Case:
    """One call of one op: `facts` are its numbers and names, `arrays` its inputs, and its output as "out"."""

    op: str
    facts: dict[str, str | int | float]
    arrays: dict[str, Array] = field(default_factory=dict)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.kernel_vectors", description=__doc__)
    parser.add_argument("file", type=Path)
    path = parser.parse_args(arguments).file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(list(cases())))
    return 0


def encode(of: list[Case]) -> bytes:
    parts = [b"octavo-vectors 1\n"]
    for case in of:
        facts = "".join(f" {key}={value}" for key, value in case.facts.items())
        parts.append(f"case {case.op}{facts}\n".encode())
        for name, values in case.arrays.items():
            little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
            parts += [f"{TYPES[values.dtype.name]} {name} {values.size}\n".encode(), little.tobytes(), b"\n"]
    return b"".join(parts)


def cases() -> Iterator[Case]:
    """Every case, from fixed seeds."""
    rng = np.random.default_rng(20)
    yield from linear_cases(rng)
    yield from norm_cases(rng)
    yield from rope_cases(rng)
    yield from activation_cases(rng)
    yield from attention_cases(rng)
    yield from sampling_cases(rng)


def linear_cases(rng: np.random.Generator) -> Iterator[Case]:
    ops = ReferenceOps(_step([1], [0], np.zeros((1, 1), np.int32)))
    for format in (*FLOATS, *SCALE_PLACES):
        for width in (96, 161) if format in FLOATS else (256, 768):
            weight = _weight(rng, format, width)
            x = _plain_activations(rng, ROWS, width)
            arrays: dict[str, Array] = {"w": weight.raw.reshape(-1), "x": x, "out": ops.linear(x, weight)}
            yield Case("linear", {"format": format, "n": OUTPUTS, "k": width, "rows": ROWS}, arrays)


def _weight(rng: np.random.Generator, format: str, width: int) -> ReferenceWeight:
    if format in FLOATS:
        values = rng.standard_normal((OUTPUTS, width)).astype(np.float32)
        return ReferenceBackend().load(HostTensor.from_float32("w", values, format))
    geometry = GEOMETRY[format]
    blocks = rng.integers(0, 256, (OUTPUTS * width // geometry.length, geometry.nbytes), dtype=np.uint8)
    for place in SCALE_PLACES[format]:
        blocks[:, place : place + 2] = rng.uniform(-1, 1, (len(blocks), 1)).astype(np.float16).view(np.uint8)
    info = TensorInfo("w", (OUTPUTS, width), format, blocks.nbytes)
    return ReferenceBackend().load(HostTensor(info, (blocks.reshape(OUTPUTS, -1),)))


def _plain_activations(rng: np.random.Generator, rows: int, width: int) -> F32:
    """Values that lose nothing in bfloat16 or in blocks of 32 bytes: integers up to 127 that each block of 32 has,
    times a power of two for each block."""
    values = rng.integers(-127, 128, (rows, width)).astype(np.float32)
    values[:, ::32] = 127.0
    powers = 2.0 ** rng.integers(-9, 2, (rows, -(-width // 32)))
    return (values * np.repeat(powers, 32, axis=1)[:, :width]).astype(np.float32)


def _random(rng: np.random.Generator, *shape: int, spread: float = 1.0) -> F32:
    return (rng.standard_normal(shape) * spread).astype(np.float32)


def _vector(values: F32) -> ReferenceWeight:
    return ReferenceBackend().load(HostTensor.from_float32("v", values))


def norm_cases(rng: np.random.Generator) -> Iterator[Case]:
    ops = ReferenceOps(_step([1], [0], np.zeros((1, 1), np.int32)))
    for width, groups in ((17, 1), (576, 1), (64, 3)):
        x, w = _random(rng, 5, width * groups, spread=3), _random(rng, width)
        facts = {"rows": 5, "width": width, "groups": groups, "eps": 1e-5}
        out = ops.rms_norm(x, _vector(w), eps=1e-5, head_dim=width)
        yield Case("rms_norm", facts, {"x": x, "w": w, "out": out})
    for width in (17, 576):
        x, w, b = _random(rng, 5, width, spread=3), _random(rng, width), _random(rng, width)
        out = ops.layer_norm(x, _vector(w), _vector(b), eps=1e-5)
        yield Case("layer_norm", {"rows": 5, "width": width, "eps": 1e-5}, {"x": x, "w": w, "b": b, "out": out})


def rope_cases(rng: np.random.Generator) -> Iterator[Case]:
    for head_dim, half in ((64, 32), (80, 16)):
        positions = np.array([0, 1, 17, 4095, 100_000], np.int32)
        inv_freq = (10000.0 ** (-np.arange(half) / half)).astype(np.float32)
        meta = StepMeta(StepInputs(np.zeros(5, np.int32), positions, np.arange(6, dtype=np.int32), positions + 1,
                                   (), np.zeros(0, np.int32)))  # fmt: skip
        x = _random(rng, 5, 3 * head_dim)
        out = ReferenceOps(meta).rope(x, RopeSpec(tuple(inv_freq.tolist()), 1.25), head_dim=head_dim)
        facts = {"rows": 5, "heads": 3, "head_dim": head_dim, "half": half, "factor": 1.25}
        yield Case("rope", facts, {"x": x, "positions": positions, "inv_freq": inv_freq, "out": out})


def activation_cases(rng: np.random.Generator) -> Iterator[Case]:
    ops = ReferenceOps(_step([1], [0], np.zeros((1, 1), np.int32)))
    gate, up = _random(rng, 3, 200, spread=5), _random(rng, 3, 200)
    gate[0, :6] = (0.0, -0.0, 100.0, -100.0, 1e-30, -1e-30)
    for activation in ("silu", "gelu_tanh", "gelu", "relu"):
        out = ops.gated(gate, up, activation)  # type: ignore[arg-type]
        facts: dict[str, str | int | float] = {"activation": activation, "rows": 3, "width": 200}
        yield Case("gated", facts, {"gate": gate, "up": up, "out": out})


def attention_cases(rng: np.random.Generator) -> Iterator[Case]:
    """One row of a long context whose last tokens are computed, beside a short prompt."""
    shapes = ((1, 1, 16), (2, 3, 64), (1, 8, 128))
    for number, (kv_heads, group, head_dim) in enumerate(shapes):
        for dtype in ("f32", "f16", "bf16", "int8"):
            window, cap, sinks = ((None, None, False), (100, 20.0, False), (None, None, True))[number]
            yield _attention(rng, KvLayout((KvGroup("all", window),), (0,), (0,), 1, kv_heads, head_dim, dtype, 16),
                             group, cap, sinks)  # fmt: skip


def _attention(rng: np.random.Generator, layout: KvLayout, group: int, cap: float | None, sinks: bool) -> Case:
    lengths, before = [3, 20], [530, 0]
    ends = [a + b for a, b in zip(lengths, before, strict=True)]
    pages = -(-max(ends) // layout.page_size)
    tables = np.arange(2 * pages, dtype=np.int32).reshape(2, pages)
    cache = ReferenceKv(layout, 2 * pages)
    kv_width, q_width = layout.num_kv_heads * layout.head_dim, layout.num_kv_heads * group * layout.head_dim
    k, v = _random(rng, sum(ends), kv_width), _random(rng, sum(ends), kv_width)
    q, sink = _random(rng, sum(lengths), q_width, spread=2), _random(rng, layout.num_kv_heads * group)
    ReferenceOps(_step(ends, [0, 0], tables)).store_kv(k, v, cache.layers[0])
    window = layout.groups[0].window
    out = ReferenceOps(_step(lengths, before, tables)).attention(
        q, cache.layers[0], num_heads=layout.num_kv_heads * group, scale=0.25, window=window, soft_cap=cap,
        sinks=_vector(sink) if sinks else None,
    )  # fmt: skip
    facts: dict[str, str | int | float] = {
        "kv_heads": layout.num_kv_heads, "group": group, "head_dim": layout.head_dim, "dtype": layout.dtype,
        "window": window or 0, "cap": cap or 0.0, "scale": 0.25,
    }  # fmt: skip
    arrays: dict[str, Array] = {"q": q, "k": k, "v": v, "out": out}
    arrays |= {"lengths": np.array(lengths, np.int32), "before": np.array(before, np.int32)}
    return Case("attention", facts, arrays | ({"sinks": sink} if sinks else {}))


def sampling_cases(rng: np.random.Generator) -> Iterator[Case]:
    controls = ((0.0, 0, 1.0, 0.0), (1.0, 0, 1.0, 0.0), (0.7, 40, 0.9, 0.0), (1.3, 0, 0.95, 0.05))
    for temperature, top_k, top_p, min_p in controls:
        logits, seeds = _random(rng, 16, 1000, spread=3), np.arange(16, dtype=np.uint64) * np.uint64(12345)
        many = [np.full(16, value, np.float32) for value in (temperature, top_p, min_p)]
        rows = SampleRows(many[0], np.full(16, top_k, np.int32), many[1], many[2], seeds, np.arange(16, dtype=np.int32))
        facts: dict[str, str | int | float] = {"rows": 16, "vocab": 1000, "seed_step": 12345}
        facts |= {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
        yield Case("sample", facts, {"logits": logits, "out": ReferenceBackend().sample(logits, rows)})


def _step(lengths: list[int], before: list[int], tables: npt.NDArray[np.int32]) -> StepMeta:
    """The facts of a step whose row r computes lengths[r] tokens after before[r]."""
    pairs = list(zip(lengths, before, strict=True))
    positions = np.concatenate([np.arange(b, b + n, dtype=np.int32) for n, b in pairs])
    starts = np.cumsum([0, *lengths]).astype(np.int32)
    ends = np.array([b + n for n, b in pairs], np.int32)
    return StepMeta(
        StepInputs(np.zeros(len(positions), np.int32), positions, starts, ends, (tables,), np.zeros(0, np.int32))
    )


if __name__ == "__main__":
    raise SystemExit(main())
