"""Tiny checkpoints by other writers, with logits that transformers computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from octavo.backends.ops import Backend
from octavo.weights.safetensors import SafetensorsFiles
from tests.models.harness import load, relative_error, run_sequences

NAMES = ["llama", "smollm2", "mistral", "qwen2", "qwen3"]


def expected(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "expected_logits.json").read_text())
    return found


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("chunk", [16, 5])
def test_logits_equal_those_of_the_fixture(name: str, chunk: int, backend: Backend, shared_data: Path) -> None:
    folder = shared_data / "arch_fixtures" / name
    model, want = load(folder, backend), expected(folder)
    found = run_sequences(backend, model.spec, model.weights, want["sequences"], chunk=chunk)
    for logits, goal in zip(found, want["logits"], strict=True):
        assert relative_error(logits, goal) < tolerance(folder, backend)


def tolerance(folder: Path, backend: Backend) -> float:
    """Products with bfloat16 weights may round activations to bfloat16; the reference never does."""
    with SafetensorsFiles.open(folder) as files:
        narrow = any(info.format == "BF16" for info in files.tensors.values())
    return 1e-2 if narrow and backend.name != "reference" else 1e-4


def test_shards_are_one_checkpoint(backend: Backend, shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "arch_fixtures" / "llama_sharded"
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    for name in set(index["weight_map"].values()):  # the index knows the shards by their first name
        (tmp_path / name).symlink_to(folder / name.replace("tiny_llama", "model"))
    for name in ("config.json", "model.safetensors.index.json"):
        (tmp_path / name).symlink_to(folder / name)
    model = load(tmp_path, backend)
    want = expected(shared_data / "arch_fixtures" / "llama")
    found = run_sequences(backend, model.spec, model.weights, want["sequences"])
    assert max(relative_error(f, w) for f, w in zip(found, want["logits"], strict=True)) < 1e-4


def test_gguf_by_another_writer(backend: Backend, shared_data: Path) -> None:
    """tiny_llama_f32.gguf holds the weights of the fixture "llama"."""
    model = load(shared_data / "arch_fixtures" / "gguf" / "tiny_llama_f32.gguf", backend)
    want = expected(shared_data / "arch_fixtures" / "llama")
    found = run_sequences(backend, model.spec, model.weights, want["sequences"])
    assert max(relative_error(f, w) for f, w in zip(found, want["logits"], strict=True)) < 1e-4
