"""Runs token sequences through a model on any backend, with page tables made by hand: the way to logits for tests."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octavo.backends.ops import F32, I32, Backend, ProgramLimits, StepInputs, Weight
from octavo.backends.reference import ReferenceBackend
from octavo.models.decoder import decoder_forward
from octavo.models.load import load_weights, read_spec
from octavo.models.spec import KvDtype, ModelSpec
from octavo.weights.hub import ModelFiles
from octavo.weights.loader import open_source

BACKENDS = ["reference", "cpu"]


def make_backend(name: str) -> Backend:
    """A backend by name; skips, loudly, where the C++ extension is not built."""
    if name == "reference":
        return ReferenceBackend()
    if importlib.util.find_spec("octavo.backends.cpu.backend") is None:
        pytest.skip("CPU BACKEND ABSENT: octavo.backends.cpu is not there")
    if importlib.util.find_spec("octavo._kernels") is None:
        pytest.skip("CPU BACKEND ABSENT: the extension octavo._kernels is not built")
    from octavo.backends.cpu import CpuBackend

    return CpuBackend(threads=2)


@contextmanager
def backend_named(name: str) -> Iterator[Backend]:
    backend = make_backend(name)
    try:
        yield backend
    finally:
        backend.close()


@dataclass(frozen=True)
class Loaded:
    """A model on a backend."""

    spec: ModelSpec
    weights: Mapping[str, Weight]


def load(path: Path, backend: Backend) -> Loaded:
    """A checkpoint folder or GGUF file."""
    files = ModelFiles(path.name, "gguf" if path.suffix == ".gguf" else "hf", path)
    spec = read_spec(files)
    source = open_source(files)
    try:
        return Loaded(spec, load_weights(spec, source, backend))
    finally:
        source.close()


def run_sequences(
    backend: Backend,
    spec: ModelSpec,
    weights: Mapping[str, Weight],
    sequences: Sequence[Sequence[int]],
    *,
    chunk: int = 512,
    page_size: int = 16,
    kv_dtype: KvDtype = "f32",
) -> list[F32]:
    """Logits [length, V] of every position of every sequence, all run together in chunks of `chunk` tokens each.

    Pages are given out in a scattered order, and pages that a window has left behind are taken back (-1) between steps.
    """
    layout = spec.kv_layout(kv_dtype, page_size)
    tables = scattered_tables([len(s) for s in sequences], page_size, len(layout.groups))
    num_pages = 1 + max(int(t.max(initial=0)) for t in tables)
    kv = backend.allocate_kv(layout, num_pages)
    kv.zero_pages(range(num_pages))
    tokens = sum(min(chunk, len(s)) for s in sequences)
    limits = ProgramLimits(tokens, len(sequences), tokens, max(len(s) for s in sequences))
    program = backend.build(decoder_forward(spec), weights, kv, limits)
    found: list[list[F32]] = [[] for _ in sequences]
    for start in range(0, limits.max_context, chunk):
        live = [i for i, s in enumerate(sequences) if len(s) > start]
        ends = [min(start + chunk, len(sequences[i])) for i in live]
        shown = []
        for table, group in zip(tables, layout.groups, strict=True):
            own = table[live].copy()
            if group.window is not None:
                own[:, : max(0, start - group.window + 1) // page_size] = -1
            shown.append(own)
        step = step_inputs(
            [sequences[i][start:end] for i, end in zip(live, ends, strict=True)], [start] * len(live), shown
        )
        logits = np.array(program.run(program.prepare(step))["logits"])
        at = 0
        for i, end in zip(live, ends, strict=True):
            found[i].append(logits[at : at + end - start])
            at += end - start
    return [np.concatenate(parts) for parts in found]


def scattered_tables(lengths: Sequence[int], page_size: int, num_groups: int) -> list[I32]:
    """Per group a table [rows, pages] over one pool, in an order that no arithmetic on page ids could guess."""
    width = -(-max(lengths) // page_size)
    ids = np.random.default_rng(7).permutation(len(lengths) * width * num_groups).astype(np.int32)
    return list(ids.reshape(num_groups, len(lengths), width))


def step_inputs(tokens: Sequence[Sequence[int]], starts: Sequence[int], tables: Sequence[I32]) -> StepInputs:
    """A step that computes `tokens[r]` of row r from position `starts[r]` on and wants the logits of all of them."""
    lengths = [len(t) for t in tokens]
    positions = [np.arange(s, s + n) for s, n in zip(starts, lengths, strict=True)]
    return StepInputs(
        token_ids=_int32(np.concatenate([np.asarray(t) for t in tokens])),
        positions=_int32(np.concatenate(positions)),
        row_starts=_int32(np.cumsum([0, *lengths])),
        context_lens=_int32([s + n for s, n in zip(starts, lengths, strict=True)]),
        page_tables=tuple(np.ascontiguousarray(t, np.int32) for t in tables),
        sample_rows=_int32(np.arange(sum(lengths))),
    )


def _int32(values: Any) -> I32:
    return np.ascontiguousarray(values, np.int32)


def relative_error(found: F32, expected: Any) -> float:
    """The largest difference, as a share of the largest expected magnitude."""
    want = np.asarray(expected, np.float64)
    return float(np.abs(found - want).max() / np.abs(want).max())
