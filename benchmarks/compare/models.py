"""Makes the models of the comparison: real shapes, random weights from a seed, kept in the user's cache.

One BF16 GGUF a shape is the source of all GGUF types, which llama-quantize makes, so that mixtures are llama.cpp's own.
The other engines get the same shape as a Hugging Face folder, as a compressed-tensors W8A8 checkpoint (one scale a
channel for weights, one a row for activations: not the accuracy of block scales), and as OpenVINO IR.
A file in the making has another name: an interrupted run leaves none that looks whole.
"""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.compare import places
from tools.make_model.cache import cached_model
from tools.make_model.shapes import SHAPES
from tools.make_model.values import random_tensor

WANTED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("smollm2-135m", ("BF16", "Q8_0", "Q4_0", "HF-BF16", "HF-W8A8", "OV-INT8")),
    ("smollm2-360m", ("BF16", "Q8_0", "Q4_0")),
    ("llama3.2-1b", ("BF16", "Q8_0", "Q4_0", "Q4_K_M", "Q6_K", "HF-BF16", "OV-INT8", "OV-INT4")),
    ("smollm2-1.7b", ("BF16", "Q8_0", "Q4_0", "Q4_K_M", "Q6_K")),
    ("smollm2-135m-32k", ("BF16", "Q8_0")),
)


def make_all(shapes: list[str]) -> None:
    for shape, formats in WANTED:
        for format in formats if not shapes or shape in shapes else ():
            print(f"model: {shape} {format}: {make(shape, format)}", file=sys.stderr, flush=True)


def make(shape: str, format: str) -> Path:
    """The path of a model, which is made if it is not there."""
    path = places.model_path(shape, format)
    if format == "BF16":
        return cached_model(shape, "BF16")
    if format == "HF-BF16":
        return cached_model(shape, "BF16", "hf")
    if not path.exists():
        makers: dict[str, Callable[[str, Path], None]] = {
            "HF-W8A8": _write_w8a8,
            "OV-INT8": lambda shape, part: _convert(shape, part, "--weight-format", "int8"),
            "OV-INT4": lambda shape, part: _convert(shape, part, "--weight-format", "int4", "--group-size", "64",
                                                    "--ratio", "1.0"),
        }  # fmt: skip
        part = path.with_name(path.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        makers.get(format, lambda shape, part: _quantize(shape, format, part))(shape, part)
        part.rename(path)
    return path


def _quantize(shape: str, format: str, part: Path) -> None:
    _run(str(places.llama_tool("llama-quantize")), str(make(shape, "BF16")), str(part), format)


def _convert(shape: str, part: Path, *options: str) -> None:
    tool = places.python_of("convert").parent / "optimum-cli"
    _run(str(tool), "export", "openvino", "--model", str(make(shape, "HF-BF16")), "--task",
         "text-generation-with-past", *options, str(part))  # fmt: skip


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"failed: {' '.join(command)}\n{(done.stdout + done.stderr)[-3000:]}")


# ---------------------------------------------------------------- compressed-tensors


def _write_w8a8(name: str, folder: Path) -> None:
    """Int8 matrices with a scale for each output, the head (and embedding) in BF16."""
    source = make(name, "HF-BF16")
    folder.mkdir()
    for file in source.iterdir():
        if file.suffix == ".json" and file.name != "config.json":
            shutil.copy(file, folder)
    config = json.loads((source / "config.json").read_text())
    config["quantization_config"] = _quantization_config()
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    tensors: list[tuple[str, str, tuple[int, ...], Callable[[], bytes]]] = []
    for tensor, dims in SHAPES[name].tensors():
        if len(dims) == 1:
            tensors.append((tensor, "F32", dims, lambda dims=dims: np.ones(dims, "<f4").tobytes()))
        elif tensor in ("model.embed_tokens.weight", "lm_head.weight"):
            tensors.append((tensor, "BF16", dims, lambda t=tensor, d=dims: _drawn("BF16", t, d)))
        else:
            tensors.append((tensor, "I8", dims, lambda t=tensor, d=dims: _int8_rows(t, d)[0]))
            scale = tensor.replace(".weight", ".weight_scale")
            tensors.append((scale, "F32", (dims[0], 1), lambda t=tensor, d=dims: _int8_rows(t, d)[1]))
    _write_safetensors(folder / "model.safetensors", tensors)


def _drawn(format: str, name: str, dims: tuple[int, ...]) -> bytes:
    return b"".join(piece.tobytes() for piece in random_tensor(format, dims, seed=0, name=name))


def _int8_rows(name: str, dims: tuple[int, ...]) -> tuple[bytes, bytes]:
    values = np.frombuffer(_drawn("F32", name, dims), "<f4").reshape(dims)
    scales = np.abs(values).max(axis=1, keepdims=True) / 127
    return np.rint(values / scales).astype(np.int8).tobytes(), scales.astype("<f4").tobytes()


def _write_safetensors(path: Path, tensors: list[tuple[str, str, tuple[int, ...], Callable[[], bytes]]]) -> None:
    width = {"F32": 4, "BF16": 2, "I8": 1}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, dtype, dims, _ in tensors:
        end = offset + width[dtype] * int(np.prod(dims))
        header[name] = {"dtype": dtype, "shape": list(dims), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, _, data in tensors:
            file.write(data())


def _quantization_config() -> dict[str, Any]:
    each = {"num_bits": 8, "type": "int", "symmetric": True}
    weights = each | {"strategy": "channel", "dynamic": False}
    inputs = each | {"strategy": "token", "dynamic": True}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs}
    return {"quant_method": "compressed-tensors", "format": "int-quantized", "quantization_status": "compressed",
            "config_groups": {"group_0": group}, "ignore": ["lm_head"]}  # fmt: skip
