"""A small GGUF writer for tests: metadata of every scalar kind, arrays, tensors as raw blocks, split parts.

Writes what it is told, malformed files included (`offsets`, `version`, `alignment`); it checks nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from octavo.weights.geometry import GGML_TYPES

_TYPE_IDS = {geometry.format: type_id for type_id, geometry in GGML_TYPES.items()}
_NUMPY_IDS = {
    "u1": 0,
    "i1": 1,
    "u2": 2,
    "i2": 3,
    "u4": 4,
    "i4": 5,
    "f4": 6,
    "u8": 10,
    "i8": 11,
    "f8": 12,
    "b1": 7,
}


def string_bytes(text: str | bytes) -> bytes:
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(data)) + data


def value_bytes(value: Any) -> bytes:
    """Type id and value: int -> u32 (i32 if negative, u64 if large), float -> f32, list or array -> array."""
    if isinstance(value, np.generic):
        return struct.pack("<I", _NUMPY_IDS[value.dtype.str[1:]]) + value.tobytes()
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        if value < 0:
            return struct.pack("<Ii", 5, value)
        return struct.pack("<II", 4, value) if value < 1 << 32 else struct.pack("<IQ", 10, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, (str, bytes)):
        return struct.pack("<I", 8) + string_bytes(value)
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], (str, bytes)):
        return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(string_bytes, value))
    array = np.asarray(value)
    if array.dtype == np.int64:
        array = array.astype(np.int32)
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    return struct.pack("<IIQ", 9, _NUMPY_IDS[array.dtype.str[1:]], array.size) + array.tobytes()


def gguf_bytes(
    metadata: Mapping[str, Any],
    tensors: Mapping[str, tuple[str, tuple[int, ...], bytes]],
    *,
    version: int = 3,
    alignment: int = 32,
    offsets: Sequence[int] | None = None,
) -> bytes:
    """A whole file. `tensors` maps a name to (format, shape outermost first, raw bytes)."""
    if alignment != 32:
        metadata = {**metadata, "general.alignment": alignment}
    head = [b"GGUF", struct.pack("<Iqq", version, len(tensors), len(metadata))]
    head += [string_bytes(key) + value_bytes(value) for key, value in metadata.items()]
    body: list[bytes] = []
    position = 0
    for index, (name, (format, shape, raw)) in enumerate(tensors.items()):
        offset = position if offsets is None else offsets[index]
        dims = struct.pack(f"<I{len(shape)}q", len(shape), *reversed(shape))
        head.append(string_bytes(name) + dims + struct.pack("<IQ", _TYPE_IDS[format], offset))
        body.append(bytes(raw) + bytes(-len(raw) % alignment))
        position += len(body[-1])
    start = b"".join(head)
    return start + bytes(-len(start) % alignment) + b"".join(body)


def write_gguf(
    path: str | Path,
    metadata: Mapping[str, Any],
    tensors: Mapping[str, tuple[str, tuple[int, ...], bytes]],
    *,
    alignment: int = 32,
) -> Path:
    """Write one GGUF file and return its path."""
    path = Path(path)
    path.write_bytes(gguf_bytes(metadata, tensors, alignment=alignment))
    return path


def write_split_gguf(
    folder: str | Path,
    stem: str,
    metadata: Mapping[str, Any],
    tensors: Mapping[str, tuple[str, tuple[int, ...], bytes]],
    count: int,
) -> list[Path]:
    """Write the tensors over `count` parts in order, metadata in the first; return the parts' paths."""
    names = list(tensors)
    per_part = -(-len(names) // count)
    paths = []
    for number in range(count):
        split = {"split.no": np.uint16(number), "split.count": np.uint16(count)}
        split["split.tensors.count"] = np.int32(len(names))
        own = {name: tensors[name] for name in names[number * per_part : (number + 1) * per_part]}
        path = Path(folder) / f"{stem}-{number + 1:05d}-of-{count:05d}.gguf"
        paths.append(write_gguf(path, {**metadata, **split} if number == 0 else split, own))
    return paths
