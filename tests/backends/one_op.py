"""Runs a few ops on any backend over inputs of the test's choice.

The only door into a forward is `embed`, so inputs are rows of embedding tables: token t of the step reads row t.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from octavo.backends.ops import F32, Backend, Forward, KvLayer, KvLayout, Ops, ProgramLimits, Value, Weight
from octavo.base.types import KvGroup
from octavo.models.spec import KvDtype
from octavo.weights.geometry import GEOMETRY
from octavo.weights.loader import HostTensor
from octavo.weights.tensor import TensorInfo
from tests.models.harness import scattered_tables, step_inputs

Body = Callable[[Ops, Mapping[str, Weight], Sequence[KvLayer]], Value]
Arrays = Mapping[str, npt.NDArray[np.float32] | HostTensor]


def layout_of(
    num_kv_heads: int = 1, head_dim: int = 8, window: int | None = None, dtype: KvDtype = "f32", page_size: int = 16
) -> KvLayout:
    """One layer, one group."""
    return KvLayout((KvGroup("only", window),), (0,), (0,), 1, num_kv_heads, head_dim, dtype, page_size)


@dataclass(frozen=True)
class Rows:
    """The step: row r computes `lengths[r]` tokens after `before[r]` that an earlier step has computed."""

    lengths: tuple[int, ...]
    before: tuple[int, ...]

    @staticmethod
    def prefill(*lengths: int) -> Rows:
        return Rows(lengths, (0,) * len(lengths))

    @property
    def total(self) -> int:
        return sum(self.lengths) + sum(self.before)


def run_op(
    backend: Backend,
    body: Body,
    arrays: Arrays,
    rows: Rows,
    *,
    layout: KvLayout | None = None,
) -> F32:
    """What `body` returns for the tokens of `rows`; token ids number all tokens, earlier ones of each row first."""
    layout = layout or layout_of()

    def forward(ops: Ops, weights: Mapping[str, Weight], kv: Sequence[KvLayer]) -> Mapping[str, Value]:
        return {"out": ops.gather_rows(body(ops, weights, kv))}

    weights = {
        name: backend.load(values if isinstance(values, HostTensor) else HostTensor.from_float32(name, values))
        for name, values in arrays.items()
    }
    return _run(backend, forward, weights, rows, layout)


def _run(backend: Backend, forward: Forward, weights: Mapping[str, Any], rows: Rows, layout: KvLayout) -> F32:
    ends = [b + n for b, n in zip(rows.before, rows.lengths, strict=True)]
    firsts = np.cumsum([0, *ends])
    tables = scattered_tables(ends, layout.page_size, len(layout.groups))
    num_pages = 1 + max(int(table.max()) for table in tables)
    kv = backend.allocate_kv(layout, num_pages)
    kv.zero_pages(range(num_pages))
    limits = ProgramLimits(rows.total, len(ends), rows.total, max(ends))
    program = backend.build(forward, weights, kv, limits)
    ids = [list(range(first, first + end)) for first, end in zip(firsts, ends, strict=False)]
    early = [r for r, before in enumerate(rows.before) if before]
    if early:
        tokens = [ids[r][: rows.before[r]] for r in early]
        program.run(program.prepare(step_inputs(tokens, [0] * len(early), [table[early] for table in tables])))
    tokens = [own[before:] for own, before in zip(ids, rows.before, strict=True)]
    outputs = program.run(program.prepare(step_inputs(tokens, rows.before, tables)))
    return np.array(outputs["out"])


_SCALE_PLACES = {
    "Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,), "Q2_K": (80, 82), "Q3_K": (108,),
    "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,),
}  # fmt: skip
"""Where the float16 scales lie in a block; every other bit may be anything."""

BLOCK_FORMATS = tuple(_SCALE_PLACES)


def random_blocks(seed: int, format: str, num_rows: int, num_columns: int) -> HostTensor:
    """A matrix of random bits with sensible scales: more of the format than what an encoder would ever write."""
    rng, geometry = np.random.default_rng(seed), GEOMETRY[format]
    blocks = rng.integers(0, 256, (num_rows * num_columns // geometry.length, geometry.nbytes), dtype=np.uint8)
    for place in _SCALE_PLACES[format]:
        scales = rng.uniform(-1, 1, (len(blocks), 1)).astype(np.float16)
        blocks[:, place : place + 2] = scales.view(np.uint8)
    info = TensorInfo(f"random.{format}", (num_rows, num_columns), format, blocks.nbytes)
    return HostTensor(info, (blocks.reshape(num_rows, -1),))


def random(seed: int, *shape: int, spread: float = 1.0) -> npt.NDArray[np.float32]:
    return (np.random.default_rng(seed).standard_normal(shape) * spread).astype(np.float32)
