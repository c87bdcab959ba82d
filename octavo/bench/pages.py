"""KV pages with something in them, for steps made by hand.

Pages that nobody wrote are one page of zeros to the system: reading them is reading a cache, not memory. Knows the
operations that store keys, no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from octavo.backends.cpu.backend import CpuBackend
from octavo.backends.cpu.kv import CpuKv
from octavo.backends.cpu.weights import CpuWeight
from octavo.backends.ops import F32, I32, Ops, ProgramLimits, StepInputs, Value
from octavo.weights.loader import HostTensor

_WORDS = 64  # position p has the keys of word p % 64
_CHUNK = 512  # tokens of one step


def words(width: int) -> F32:
    """What is stored, keys and values alike: [64, width]."""
    return np.random.default_rng(2).standard_normal((_WORDS, width), np.float32)


def fill_pages(backend: CpuBackend, kv: CpuKv, tables: Sequence[I32], context: int) -> None:
    """Writes the first `context` positions of every row of `tables` ([R, P] of each KV group), in all layers."""
    stored = HostTensor.from_float32("words", words(kv.layout.num_kv_heads * kv.layout.head_dim))
    weights = {"words": backend.load(stored)}

    def store(ops: Ops, w: Mapping[str, CpuWeight], layers: Sequence[Any]) -> Mapping[str, Value]:
        k = ops.embed(w["words"])
        for layer in layers:
            ops.store_kv(k, k, layer)
        return {"rows": ops.gather_rows(k)}

    program = backend.build(store, weights, kv, ProgramLimits(min(_CHUNK, context), 1, 1, context))
    for row in range(len(tables[0])):
        own = tuple(np.ascontiguousarray(table[row : row + 1]) for table in tables)
        for start in range(0, context, _CHUNK):
            positions = np.arange(start, min(start + _CHUNK, context), dtype=np.int32)
            starts, ends = np.array([0, len(positions)], np.int32), positions[-1:] + 1
            step = StepInputs(positions % _WORDS, positions, starts, ends, own, np.zeros(1, np.int32))
            program.run(program.prepare(step))
