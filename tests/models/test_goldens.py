"""Logits of every family against transformers' (tests/golden, made by tools/golden), from both kinds of file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from octavo.backends.ops import F32, Backend
from octavo.backends.reference import ReferenceBackend
from octavo.models.families import FAMILIES
from tests.models.harness import load, relative_error, run_sequences

GOLDEN = Path(__file__).parents[1] / "golden"
FOLDERS = sorted(path.parent for path in GOLDEN.glob("*/expected.npz"))
FILES = FOLDERS + sorted(GOLDEN.glob("*/model.gguf"))


def expected(folder: Path) -> tuple[list[list[int]], list[F32]]:
    with np.load(folder / "expected.npz") as arrays:
        count = len(arrays.files) // 2
        return [arrays[f"ids{i}"].tolist() for i in range(count)], [arrays[f"logits{i}"] for i in range(count)]


def folder_of(path: Path) -> Path:
    return path if path.is_dir() else path.parent


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{folder_of(p).name}-{'hf' if p.is_dir() else 'gguf'}")
def test_logits_equal_transformers(path: Path, backend: Backend) -> None:
    model = load(path, backend)
    sequences, want = expected(folder_of(path))
    for chunk, page_size in ((64, 16), (6, 16)):
        found = run_sequences(backend, model.spec, model.weights, sequences, chunk=chunk, page_size=page_size)
        for logits, goal in zip(found, want, strict=True):
            assert relative_error(logits, goal) < 1e-4


def test_every_family_and_kind_of_head_has_a_golden() -> None:
    specs = [load(folder, ReferenceBackend()).spec for folder in FOLDERS]
    assert {spec.architecture for spec in specs} == {family.name for family in FAMILIES}
    kinds = {"mha" if s.num_heads == s.num_kv_heads else "mqa" if s.num_kv_heads == 1 else "gqa" for s in specs}
    assert kinds == {"mha", "gqa", "mqa"}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_a_row_never_feels_its_neighbours(folder: Path, backend: Backend) -> None:
    """Alone or together, whole or in chunks, on whatever pages: the same bits."""
    model = load(folder, backend)
    sequences, _ = expected(folder)
    together = run_sequences(backend, model.spec, model.weights, sequences)
    for sequence, logits in zip(sequences, together, strict=True):
        alone = run_sequences(backend, model.spec, model.weights, [sequence], chunk=7, page_size=32)[0]
        assert np.array_equal(alone, logits)


def test_the_goldens_feel_what_they_are_about() -> None:
    """Each special setting changes the expected logits by far more than the tolerance, so that none can be lost."""
    from dataclasses import replace

    from octavo.backends.ops import RopeSpec

    backend = ReferenceBackend()
    plain = RopeSpec(tuple(500000.0 ** (-i / 8) for i in range(8)))
    changes = {
        "llama32_rope": {"ropes": (plain,)},
        "mistral_window": {"layer_windows": (None, None)},
        "qwen2_upper_window": {"layer_windows": (None, None)},
        "qwen25_yarn": {"ropes": (RopeSpec(tuple(1e6 ** (-i / 2) for i in range(2))),)},
        "qwen3_head_dim": {"qk_norm": False},
        "gemma3_text": {"layer_ropes": (0,) * 7},
    }
    for name, change in changes.items():
        model = load(GOLDEN / name, backend)
        sequences, want = expected(GOLDEN / name)
        found = run_sequences(backend, replace(model.spec, **change), model.weights, sequences)  # type: ignore[arg-type]
        assert relative_error(found[0], want[0]) > 1e-2, name
