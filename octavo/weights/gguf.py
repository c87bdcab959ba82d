"""The GGUF container, versions 2 and 3, split files included.

Owns the parsing of headers into metadata and tensor places, every read bounded by the file's size, and the
mapped bytes. Does not know what keys mean to a model, nor how blocks are decoded. Source: the GGUF
specification (ggml).
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from octavo.base.errors import ModelFormatError
from octavo.weights.geometry import GGML_TYPES, RETIRED_GGML_TYPES, tensor_nbytes
from octavo.weights.mapped import MappedFile
from octavo.weights.tensor import Bytes, TensorInfo

_MAGIC = b"GGUF"
_DEFAULT_ALIGNMENT = 32
_MAX_COUNT = 1 << 30
_MAX_DIMENSIONS = 4
_MAX_TENSOR_NAME_BYTES = 63
_MAX_ALIGNMENT = 1 << 20
_STRING, _BOOL, _ARRAY = 8, 7, 9
_SCALARS = {
    0: "<u1",
    1: "<i1",
    2: "<u2",
    3: "<i2",
    4: "<u4",
    5: "<i4",
    6: "<f4",
    7: "?",
    10: "<u8",
    11: "<i8",
    12: "<f8",
}
_SPLIT_NAME = re.compile(r"^(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf$")


@dataclass(frozen=True)
class _Place:
    """Where a tensor's bytes are: which part, and from which byte of that part."""

    part: int
    start: int


class GGUFFile:
    """An open GGUF model: one file, or all parts of a split one, with the metadata of the first."""

    def __init__(self, parts: list[_Part]) -> None:
        self._parts = parts
        self.path = parts[0].file.path
        self.metadata: Mapping[str, Any] = parts[0].metadata
        tensors: dict[str, TensorInfo] = {}
        self._places: dict[str, _Place] = {}
        for number, part in enumerate(parts):
            for info, start in part.tensors:
                if info.name in tensors:
                    raise ModelFormatError(part.file.path, f"tensor {info.name!r} occurs twice")
                tensors[info.name] = info
                self._places[info.name] = _Place(number, start)
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(tensors)

    @classmethod
    def open(cls, path: str | Path) -> GGUFFile:
        """Open a file; of a split model any part may be named, and all parts must be there.

        Raises ModelNotFoundError when the file does not exist, ModelFormatError (with file and reason) for
        anything that is not a well-formed GGUF model.
        """
        path = Path(path)
        parts = [_read_part(path)]
        try:
            if (count := _split_count(parts[0])) > 1:
                number, paths = _split_paths(path, count)
                own = parts.pop()
                for i, part_path in enumerate(paths):
                    parts.append(own if i == number else _read_part(part_path))
                _check_split(parts)
            return cls(parts)
        except BaseException:
            for part in parts:
                part.file.close()
            raise

    @property
    def paths(self) -> list[Path]:
        """The files of the model, in part order."""
        return [part.file.path for part in self._parts]

    def raw(self, name: str) -> Bytes:
        """The stored bytes of a tensor: uint8, 1-D, read-only, no copy; KeyError for an unknown name."""
        place = self._places[name]
        return self._parts[place.part].file.view(place.start, self.tensors[name].nbytes)

    def release(self, name: str) -> None:
        """Let go of the mapped pages of a tensor (they can be read again)."""
        place = self._places[name]
        self._parts[place.part].file.release(place.start, self.tensors[name].nbytes)

    def close(self) -> None:
        """Drop the mappings. Views handed out by `raw` stay valid until they are dropped."""
        for part in self._parts:
            part.file.close()

    def __enter__(self) -> GGUFFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Metadata(Mapping[str, Any]):
    """The key-value pairs; arrays of strings are decoded when first asked for (vocabularies are large)."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def __getitem__(self, key: str) -> Any:
        value = self._values[key]
        if isinstance(value, _StringArray):
            value = self._values[key] = value.decode()
        return value

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@dataclass(frozen=True)
class _StringArray:
    """An undecoded array of `count` strings: `data` holds a u64 length before each."""

    data: bytes
    count: int

    def decode(self) -> list[str]:
        data, position, strings = self.data, 0, []
        unpack = struct.Struct("<Q").unpack_from
        for _ in range(self.count):
            start = position + 8
            position = start + unpack(data, position)[0]
            strings.append(data[start:position].decode("utf-8", "surrogateescape"))
        return strings


@dataclass(frozen=True)
class _Part:
    """One parsed file: tensors come with the byte at which they start in the file."""

    file: MappedFile
    metadata: _Metadata
    tensors: list[tuple[TensorInfo, int]]


class _Reader:
    """A cursor over a mapped file; every read is checked against the end before it happens."""

    def __init__(self, file: MappedFile) -> None:
        self.file = file
        self.data = file.mapping
        self.size = file.size
        self.position = 0

    def fail(self, reason: str) -> ModelFormatError:
        return ModelFormatError(self.file.path, reason)

    def take(self, nbytes: int, what: str) -> int:
        """Advance by `nbytes` and return where they start."""
        start = self.position
        if nbytes > self.size - start:
            need = f"needs {nbytes} bytes at {start}, the file has {self.size}"
            raise self.fail(f"the file ends inside {what} ({need})")
        self.position = start + nbytes
        return start

    def scalar(self, type_id: int, what: str) -> Any:
        dtype = np.dtype(_SCALARS[type_id])
        start = self.take(dtype.itemsize, what)
        return np.frombuffer(self.data[start : self.position], dtype)[0].item()

    def u32(self, what: str) -> int:
        return int(struct.unpack_from("<I", self.data, self.take(4, what))[0])

    def u64(self, what: str) -> int:
        return int(struct.unpack_from("<Q", self.data, self.take(8, what))[0])

    def i64(self, what: str) -> int:
        return int(struct.unpack_from("<q", self.data, self.take(8, what))[0])

    def string(self, what: str) -> bytes:
        nbytes = self.u64(f"the length of {what}")
        start = self.take(nbytes, what)
        return self.data[start : start + nbytes]

    def name(self, what: str) -> str:
        text = self.string(what)
        if not text:
            raise self.fail(f"{what} is empty")
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError:
            raise self.fail(f"{what} is not valid UTF-8: {text[:64]!r}") from None

    def count(self, what: str) -> int:
        value = self.i64(what)
        if not 0 <= value <= _MAX_COUNT:
            raise self.fail(f"{what} is {value}, which no real file has")
        return value

    def strings(self, count: int, what: str) -> _StringArray:
        """Walk over an array of strings: their lengths are all that must be read to find its end."""
        start = position = self.position
        limit, data = self.size - 8, self.data
        if count * 8 > self.size - start:
            raise self.fail(f"the file ends inside {what} (it claims {count} strings)")
        unpack: Callable[[Any, int], tuple[int]] = struct.Struct("<Q").unpack_from
        for _ in range(count):
            if position > limit:
                raise self.fail(f"the file ends inside {what}")
            position += 8 + unpack(data, position)[0]
        if position > self.size:
            raise self.fail(f"the file ends inside {what}")
        self.position = position
        return _StringArray(data[start:position], count)


def _read_part(path: Path) -> _Part:
    file = MappedFile(path)
    try:
        reader = _Reader(file)
        num_tensors, num_pairs = _read_header(reader)
        metadata = _read_metadata(reader, num_pairs)
        tensors = _read_tensor_infos(reader, num_tensors, _alignment(reader, metadata))
        return _Part(file, metadata, tensors)
    except BaseException:
        file.close()
        raise


def _read_header(reader: _Reader) -> tuple[int, int]:
    magic = reader.data[: len(_MAGIC)]
    if magic != _MAGIC:
        raise reader.fail(f"not a GGUF file (it starts with {magic!r} instead of {_MAGIC!r})")
    reader.take(len(_MAGIC), "the magic number")
    version = reader.u32("the version")
    if version & 0xFFFF == 0 and version:
        raise reader.fail("the file is byte-swapped (big-endian); get the little-endian one")
    if version < 2:
        raise reader.fail(f"GGUF version {version} is too old; convert the model again")
    if version > 3:
        raise reader.fail(f"GGUF version {version} is newer than 2 and 3, the ones known here")
    return reader.count("the number of tensors"), reader.count("the number of metadata pairs")


def _read_metadata(reader: _Reader, num_pairs: int) -> _Metadata:
    values: dict[str, Any] = {}
    for index in range(num_pairs):
        key = reader.name(f"metadata key {index}")
        if key in values:
            raise reader.fail(f"metadata key {key!r} occurs twice")
        values[key] = _read_value(reader, reader.u32(f"the type of {key!r}"), f"the value of {key!r}")
    return _Metadata(values)


def _read_value(reader: _Reader, type_id: int, what: str) -> Any:
    if type_id == _STRING:
        return reader.string(what).decode("utf-8", "surrogateescape")
    if type_id in _SCALARS:
        return reader.scalar(type_id, what)
    if type_id != _ARRAY:
        raise reader.fail(f"{what} has the unknown type {type_id}")
    element_type = reader.u32(f"the element type of {what}")
    count = reader.u64(f"the length of {what}")
    if element_type == _STRING:
        return reader.strings(count, what)
    if element_type == _ARRAY:
        raise reader.fail(f"{what} is an array of arrays, which GGUF does not allow")
    if element_type not in _SCALARS:
        raise reader.fail(f"{what} is an array of the unknown type {element_type}")
    dtype = np.dtype(_SCALARS[element_type])
    start = reader.take(count * dtype.itemsize, what)
    stored = np.uint8 if element_type == _BOOL else dtype
    values = np.frombuffer(reader.data[start : reader.position], stored)
    return values != 0 if element_type == _BOOL else values


def _alignment(reader: _Reader, metadata: _Metadata) -> int:
    value = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    if type(value) is not int or not 0 < value <= _MAX_ALIGNMENT or value & (value - 1):
        raise reader.fail(f"general.alignment is {value!r}, not a power of two up to {_MAX_ALIGNMENT}")
    return value


def _read_tensor_infos(reader: _Reader, num_tensors: int, alignment: int) -> list[tuple[TensorInfo, int]]:
    infos: list[tuple[TensorInfo, int]] = []
    names: set[str] = set()
    expected = 0
    for index in range(num_tensors):
        info, offset = _read_tensor_info(reader, index)
        if info.name in names:
            raise reader.fail(f"tensor {info.name!r} occurs twice")
        names.add(info.name)
        if offset != expected:
            wanted = f"the tensors before it end at {expected}"
            raise reader.fail(f"tensor {info.name!r} has offset {offset}, but {wanted}")
        infos.append((info, offset))
        expected = _padded(offset + info.nbytes, alignment)
    data_start = _padded(reader.position, alignment)
    placed = [(info, data_start + offset) for info, offset in infos]
    for info, start in placed:
        if start + info.nbytes > reader.size:
            missing = start + info.nbytes - reader.size
            raise reader.fail(f"the file is cut off: tensor {info.name!r} ends {missing} bytes after its end")
    return placed


def _read_tensor_info(reader: _Reader, index: int) -> tuple[TensorInfo, int]:
    name = reader.name(f"the name of tensor {index}")
    if len(name.encode()) > _MAX_TENSOR_NAME_BYTES:
        raise reader.fail(f"tensor name {name[:80]!r} is longer than {_MAX_TENSOR_NAME_BYTES} bytes")
    num_dims = reader.u32(f"the number of dimensions of {name!r}")
    if num_dims > _MAX_DIMENSIONS:
        raise reader.fail(f"tensor {name!r} claims {num_dims} dimensions, more than {_MAX_DIMENSIONS}")
    dims = [reader.i64(f"the dimensions of {name!r}") for _ in range(num_dims)]
    type_id = reader.u32(f"the type of {name!r}")
    offset = reader.u64(f"the offset of {name!r}")
    if type_id in RETIRED_GGML_TYPES:
        old = RETIRED_GGML_TYPES[type_id]
        raise reader.fail(f"tensor {name!r} has the retired type {old}; get a current file of this model")
    if type_id not in GGML_TYPES:
        raise reader.fail(f"tensor {name!r} has the unknown type {type_id}")
    if any(dim < 0 for dim in dims) or math.prod(max(dim, 1) for dim in dims) >= 1 << 62:
        raise reader.fail(f"tensor {name!r} has impossible dimensions {dims}")
    shape = tuple(reversed(dims))
    format = GGML_TYPES[type_id].format
    try:
        return TensorInfo(name, shape, format, tensor_nbytes(format, shape)), offset
    except ValueError as error:
        raise reader.fail(f"tensor {name!r}: {error}") from None


def _padded(nbytes: int, alignment: int) -> int:
    return -(-nbytes // alignment) * alignment


def _split_count(part: _Part) -> int:
    count = part.metadata.get("split.count", 1)
    if type(count) is not int or count < 0:
        raise ModelFormatError(part.file.path, f"split.count is {count!r}, not a number of parts")
    return max(count, 1)


def _split_paths(path: Path, count: int) -> tuple[int, list[Path]]:
    """Which part `path` is (from 0), and the paths of all parts."""
    match = _SPLIT_NAME.match(path.name)
    if not match or int(match["count"]) != count or not 1 <= int(match["number"]) <= count:
        wanted = f"<name>-00001-of-{count:05d}.gguf"
        raise ModelFormatError(path, f"this is one of {count} parts, whose names must look like {wanted}")
    paths = [path.with_name(f"{match['stem']}-{i:05d}-of-{count:05d}.gguf") for i in range(1, count + 1)]
    if missing := [p.name for p in paths if not p.exists()]:
        names = ", ".join(missing[:8])
        raise ModelFormatError(path, f"{len(missing)} of {count} parts missing beside it: {names}")
    return int(match["number"]) - 1, paths


def _check_split(parts: list[_Part]) -> None:
    for number, part in enumerate(parts):
        stated = (part.metadata.get("split.no"), part.metadata.get("split.count"))
        if stated != (number, len(parts)):
            wanted = f"split.no {number}, split.count {len(parts)}"
            raise ModelFormatError(part.file.path, f"expected {wanted}, found {stated[0]!r}, {stated[1]!r}")
    total = parts[0].metadata.get("split.tensors.count")
    found = sum(len(part.tensors) for part in parts)
    if total is not None and total != found:
        raise ModelFormatError(parts[0].file.path, f"the parts hold {found} tensors instead of {total}")
