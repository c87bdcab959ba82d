"""Copies of golden checkpoints with tensors changed, for tests of what the loader accepts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from octavo.weights.hub import ModelFiles
from octavo.weights.safetensors import SafetensorsFiles
from tests.weights.safetensors_writer import Stored, write_safetensors

GOLDEN = Path(__file__).parents[1] / "golden"
Tensors = dict[str, Stored]


def golden_files(name: str, kind: str = "hf") -> ModelFiles:
    folder = GOLDEN / name
    return ModelFiles(name, "hf", folder) if kind == "hf" else ModelFiles(name, "gguf", folder / "model.gguf")


def edited(
    name: str,
    target: Path,
    tensors: Callable[[Tensors], Tensors] | None = None,
    config: dict[str, Any] | None = None,
) -> ModelFiles:
    """The golden checkpoint `name` written to `target`, its tensors passed through a function, its config updated."""
    with SafetensorsFiles.open(GOLDEN / name) as source:
        found = {n: (i.format, i.shape, source.raw(n).tobytes()) for n, i in source.tensors.items()}
    write_safetensors(target / "model.safetensors", tensors(found) if tensors else found)
    values = json.loads((GOLDEN / name / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**values, **(config or {})}))
    return ModelFiles(name, "hf", target)
