"""A small safetensors writer for tests: single files, and folders of shards with their index."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Stored = tuple[str, tuple[int, ...], bytes]
"""(dtype, shape, raw bytes)."""


def file_bytes(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def safetensors_bytes(tensors: Mapping[str, Stored], metadata: Mapping[str, str] | None = None) -> bytes:
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    data = b""
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {
            "dtype": dtype,
            "shape": list(shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    return file_bytes(header, data)


def write_safetensors(path: str | Path, tensors: Mapping[str, Stored]) -> Path:
    path = Path(path)
    path.write_bytes(safetensors_bytes(tensors, {"format": "pt"}))
    return path


def write_sharded(folder: str | Path, tensors: Mapping[str, Stored], count: int) -> list[Path]:
    """Write `model-0000i-of-0000N.safetensors` and the index; tensors are dealt in order."""
    names = list(tensors)
    per_shard = -(-len(names) // count)
    weight_map: dict[str, str] = {}
    paths = []
    for number in range(count):
        own = names[number * per_shard : (number + 1) * per_shard]
        path = Path(folder) / f"model-{number + 1:05d}-of-{count:05d}.safetensors"
        paths.append(write_safetensors(path, {name: tensors[name] for name in own}))
        weight_map |= dict.fromkeys(own, path.name)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (Path(folder) / "model.safetensors.index.json").write_text(json.dumps(index))
    return paths
