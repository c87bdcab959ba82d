"""Small models for the tests of names and downloads, and what to ask of them once they are here."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from octavo.weights.gguf import GGUFFile
from octavo.weights.hub import ModelFiles, resolve
from octavo.weights.loader import open_source
from tests.weights.gguf_writer import gguf_bytes
from tests.weights.safetensors_writer import write_safetensors, write_sharded

STORED = {name: ("F32", (64, 16), np.full(1024, value, np.float32).tobytes()) for name, value in (("a", 1), ("b", 2))}
SIDE_FILES = {
    "config.json": b'{"model_type": "llama"}',
    "generation_config.json": b'{"eos_token_id": 2}',
    "tokenizer.json": b'{"model": {}}',
    "tokenizer_config.json": b"{}",
    "chat_template.jinja": b"{{ messages }}",
}
UNWANTED = {
    "README.md": b"# Model",
    ".gitattributes": b"",
    "pytorch_model.bin": b"\x80\x04 a pickle",
    "pytorch_model.bin.index.json": b"{}",
    "original/consolidated.00.pth": b"\x80\x04",
    "onnx/model.onnx": b"onnx",
    "consolidated.safetensors": b"other weights",
}


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def checkpoint(tmp_path: Path, shards: int = 1) -> dict[str, bytes]:
    folder = tmp_path / f"made-{shards}"
    folder.mkdir()
    if shards == 1:
        write_safetensors(folder / "model.safetensors", STORED)
    else:
        write_sharded(folder, STORED, shards)
    return folder_bytes(folder)


def gguf(quant: str) -> bytes:
    return gguf_bytes({"general.name": quant}, STORED)


def get(name: str, **options: object) -> ModelFiles:
    return resolve(name, progress=False, **options)  # type: ignore[arg-type]


def assert_opens(files: ModelFiles) -> None:
    source = open_source(files)
    assert {name: source.raw(name).tobytes() for name in source.tensors} == {n: s[2] for n, s in STORED.items()}
    source.close()


def quant_name(files: ModelFiles) -> str:
    assert files.kind == "gguf"
    with GGUFFile.open(files.path) as source:
        return str(source.metadata["general.name"])
