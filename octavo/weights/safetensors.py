"""Safetensors checkpoints: one file, or shards listed by an index, mapped as one set of tensors.

Owns the header parsing, with every claim checked against the file. Does not know what the tensors are for,
and never opens a pickle. Source: the safetensors format description (u64 header length, JSON header, data).
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeGuard

from octavo.base.errors import ModelFormatError, ModelNotFoundError
from octavo.weights.geometry import SAFETENSORS_DTYPES
from octavo.weights.mapped import MappedFile
from octavo.weights.tensor import Bytes, TensorInfo

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
"""Endings of files that are, or may hold, pickles: these are never opened."""

_MAX_HEADER_BYTES = 100_000_000
_MAX_DIMENSIONS = 8


class SafetensorsFiles:
    """An open checkpoint: a folder's `model.safetensors`, the shards of its index, or one file."""

    def __init__(self, files: list[MappedFile], headers: list[_Header]) -> None:
        self._files = files
        self._places: dict[str, tuple[int, int]] = {}
        tensors: dict[str, TensorInfo] = {}
        for number, header in enumerate(headers):
            for info, start in header.tensors:
                if info.name in tensors:
                    raise ModelFormatError(files[number].path, f"tensor {info.name!r} is in two shards")
                tensors[info.name] = info
                self._places[info.name] = (number, start)
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(tensors)
        self.metadata: Mapping[str, str] = MappingProxyType(headers[0].metadata if headers else {})

    @classmethod
    def open(cls, path: str | Path) -> SafetensorsFiles:
        """Open a folder or a single file.

        Raises ModelNotFoundError when there is no checkpoint, ModelFormatError (with file and reason) when it
        is damaged, incomplete (missing shards and tensors are named) or a pickle.
        """
        path = Path(path)
        if not path.is_dir():
            if path.suffix in PICKLES:
                raise pickle_error(path)
            return cls._open_all([path])
        index = path / INDEX
        if index.exists():
            placed = read_index(index)
            shards = sorted(set(placed.values()))
            if missing := [name for name in shards if not (path / name).exists()]:
                names = ", ".join(missing[:8])
                raise ModelFormatError(index, f"{len(missing)} of {len(shards)} shards missing: {names}")
            files = cls._open_all([path / name for name in shards])
            try:
                files._check_index(index, placed)
            except BaseException:
                files.close()
                raise
            return files
        if (path / SINGLE).exists():
            return cls._open_all([path / SINGLE])
        raise no_weights_error(path)

    @classmethod
    def _open_all(cls, paths: list[Path]) -> SafetensorsFiles:
        files: list[MappedFile] = []
        try:
            headers = []
            for path in paths:
                files.append(MappedFile(path))
                headers.append(_Header(files[-1]))
            return cls(files, headers)
        except BaseException:
            for file in files:
                file.close()
            raise

    def _check_index(self, index: Path, placed: Mapping[str, str]) -> None:
        for name, shard in placed.items():
            if name not in self.tensors:
                raise ModelFormatError(index, f"tensor {name!r} is missing: {shard} does not hold it")

    @property
    def paths(self) -> list[Path]:
        """The files of the checkpoint."""
        return [file.path for file in self._files]

    def raw(self, name: str) -> Bytes:
        """The stored bytes of a tensor: uint8, 1-D, read-only, no copy; KeyError for an unknown name."""
        number, start = self._places[name]
        return self._files[number].view(start, self.tensors[name].nbytes)

    def release(self, name: str) -> None:
        """Let go of the mapped pages of a tensor (they can be read again)."""
        number, start = self._places[name]
        self._files[number].release(start, self.tensors[name].nbytes)

    def close(self) -> None:
        """Drop the mappings. Views handed out by `raw` stay valid until they are dropped."""
        for file in self._files:
            file.close()

    def __enter__(self) -> SafetensorsFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Header:
    """A file's parsed header: tensors with the byte at which each starts, and the string metadata."""

    def __init__(self, file: MappedFile) -> None:
        self.path = file.path
        if file.size < 8:
            raise ModelFormatError(self.path, f"the file is cut off: {file.size} bytes cannot hold a header")
        (nbytes,) = struct.unpack("<Q", file.mapping[:8])
        if nbytes > _MAX_HEADER_BYTES:
            raise ModelFormatError(self.path, f"not a safetensors file (it claims a header of {nbytes} bytes)")
        if nbytes > file.size - 8:
            raise ModelFormatError(self.path, f"the file is cut off inside its header of {nbytes} bytes")
        entries = _json_object(self.path, file.mapping[8 : 8 + nbytes], "the header")
        self.metadata = self._metadata(entries.pop("__metadata__", {}))
        data_nbytes = file.size - 8 - nbytes
        self.tensors = [(info, 8 + nbytes + begin) for info, begin in self._infos(entries, data_nbytes)]

    def _metadata(self, value: Any) -> dict[str, str]:
        if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
            raise ModelFormatError(self.path, "__metadata__ is not a map of strings")
        return value

    def _infos(self, entries: dict[str, Any], data_nbytes: int) -> list[tuple[TensorInfo, int]]:
        infos = sorted((self._info(name, entry) for name, entry in entries.items()), key=_by_place)
        end = 0
        for info, begin in infos:
            if begin != end:
                raise ModelFormatError(self.path, f"tensor {info.name!r} starts at {begin} instead of {end}")
            end = begin + info.nbytes
        if end > data_nbytes:
            raise ModelFormatError(self.path, f"the file is cut off: {end - data_nbytes} bytes of data missing")
        if end < data_nbytes:
            raise ModelFormatError(self.path, f"{data_nbytes - end} bytes at the end belong to no tensor")
        return infos

    def _info(self, name: str, entry: Any) -> tuple[TensorInfo, int]:
        if not isinstance(entry, dict):
            raise ModelFormatError(self.path, f"tensor {name!r} has no description")
        dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
        if not isinstance(dtype, str) or dtype not in SAFETENSORS_DTYPES:
            raise ModelFormatError(self.path, f"tensor {name!r} has the unknown dtype {dtype!r}")
        if not _is_sizes(shape):
            raise ModelFormatError(self.path, f"tensor {name!r} has the shape {shape!r}")
        if not _is_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
            raise ModelFormatError(self.path, f"tensor {name!r} has the data_offsets {offsets!r}")
        begin, end = offsets
        geometry = SAFETENSORS_DTYPES[dtype]
        if math.prod(shape) * geometry.nbytes != (end - begin) * geometry.length:
            stated = f"{dtype} {shape} does not take {end - begin} bytes"
            raise ModelFormatError(self.path, f"tensor {name!r}: {stated}")
        return TensorInfo(name, tuple(shape), dtype, end - begin), begin


def _by_place(placed: tuple[TensorInfo, int]) -> tuple[int, int]:
    # Empty tensors come before the one that starts at the same byte.
    info, begin = placed
    return begin, info.nbytes


def _is_sizes(value: Any) -> TypeGuard[list[int]]:
    if not isinstance(value, list) or not all(type(v) is int and v >= 0 for v in value):
        return False
    return len(value) <= _MAX_DIMENSIONS and math.prod(max(v, 1) for v in value) < 1 << 62


def _json_object(path: Path, data: bytes, what: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in pairs:
            if key in result:
                raise ModelFormatError(path, f"{key!r} occurs twice in {what}")
            result[key] = value
        return result

    try:
        value = json.loads(data, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(path, f"{what} is not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise ModelFormatError(path, f"{what} is not a JSON object")
    return value


def read_index(index: Path) -> dict[str, str]:
    """Tensor name -> shard file name. Raises ModelFormatError."""
    weight_map = _json_object(index, index.read_bytes(), "the index").get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelFormatError(index, "the index has no weight_map")
    for name, shard in weight_map.items():
        # A shard is a file of this folder: a path that leaves it is not followed.
        if not isinstance(shard, str) or Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise ModelFormatError(index, f"tensor {name!r} is placed in {shard!r}, which is no shard's name")
    return weight_map


def pickle_error(path: Path) -> ModelFormatError:
    """The refusal of a pickle, with the way out."""
    fix = "get a safetensors or GGUF version, or convert them with `model.save_pretrained(folder)`"
    return ModelFormatError(path, f"pickled weights are never opened, as they can run code; {fix}")


def no_weights_error(folder: Path) -> ModelFormatError | ModelNotFoundError:
    """Why a folder is no checkpoint, as an error to raise."""
    names = sorted(entry.name for entry in folder.iterdir())
    if pickles := [name for name in names if name.endswith(PICKLES)]:
        return pickle_error(folder / pickles[0])
    if others := [name for name in names if name.endswith(".safetensors")]:
        reason = f"holds {others[0]}, but neither {SINGLE} nor {INDEX}; name the file itself, or add the index"
        return ModelFormatError(folder, reason)
    return ModelNotFoundError(f"{folder} holds no weights: expected {SINGLE}, {INDEX} or a .gguf file")
