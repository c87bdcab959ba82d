"""Where made models are kept: a folder of the user's cache, never the repository. Makes those that are not there."""

from __future__ import annotations

import os
from pathlib import Path

from tools.make_model.folder import write_folder
from tools.make_model.gguf import write_gguf
from tools.make_model.shapes import SHAPES


def cache_folder() -> Path:
    """$XDG_CACHE_HOME/octavo/random-models, XDG_CACHE_HOME being ~/.cache by default."""
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(root).expanduser() / "octavo" / "random-models"


def model_path(shape: str, format: str, kind: str = "gguf", seed: int = 0) -> Path:
    """The place of a model in the cache."""
    name = f"{shape}-{format}" + (f"-seed{seed}" if seed else "")
    return cache_folder() / (f"{name}.gguf" if kind == "gguf" else f"{name}-hf")


def cached_model(
    shape: str, format: str, kind: str = "gguf", seed: int = 0, *, out: Path | None = None, force: bool = False
) -> Path:
    """The path of a model, which is made first if it is not there (or `force` says so)."""
    path = out or model_path(shape, format, kind, seed)
    whole = path if kind == "gguf" else path / "model.safetensors"
    if force or not whole.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write = write_gguf if kind == "gguf" else write_folder
        write(path, SHAPES[shape], format, seed=seed)
    return path
