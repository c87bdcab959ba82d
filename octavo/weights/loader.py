"""Tensors on their way from files to a backend: raw rows, permuted, sliced and joined before packing.

Owns `HostTensor` and the choice of reader. A row is one entry of the first axis and a whole number of blocks,
so that everything here moves bytes; only `to_float32` decodes them. Does not know which tensors a model has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from octavo.base.errors import ModelFormatError
from octavo.weights.formats import dequantize, quantize
from octavo.weights.geometry import GEOMETRY, tensor_nbytes
from octavo.weights.gguf import GGUFFile
from octavo.weights.hub import ModelFiles
from octavo.weights.safetensors import SafetensorsFiles
from octavo.weights.tensor import Bytes, TensorInfo, WeightSource

RowOrder = npt.NDArray[np.int64]
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, eq=False)
class HostTensor:
    """A tensor whose bytes lie in host memory, mostly in a mapped file.

    `info` describes the tensor as it will be read. `parts` are the stored rows, uint8 [rows, row bytes] each,
    one after the other; row i of the tensor is stored row `order[i]` of them (`order` None: row i). 1-D tensors
    of unblocked formats have one element a row. `releases` let go of the file pages behind the parts.
    """

    info: TensorInfo
    parts: tuple[Bytes, ...]
    order: RowOrder | None = None
    releases: tuple[Callable[[], None], ...] = ()

    @classmethod
    def of(cls, source: WeightSource, name: str) -> HostTensor:
        """A tensor of opened files, without a copy. Raises ModelFormatError when they do not hold it."""
        if name not in source.tensors:
            raise ModelFormatError(source.paths[0], f"tensor {name!r} is missing")
        info = source.tensors[name]
        return cls(info, (_as_rows(info, source.raw(name)),), None, (lambda: source.release(name),))

    @classmethod
    def from_float32(cls, name: str, values: npt.NDArray[np.float32], format: str = "F32") -> HostTensor:
        """`values` stored in `format` (encoded by the plain reference encoder)."""
        info = TensorInfo(name, values.shape, format, tensor_nbytes(format, values.shape))
        return cls(info, (_as_rows(info, quantize(format, values)),))

    @classmethod
    def joined(cls, name: str, tensors: Sequence[HostTensor]) -> HostTensor:
        """Several tensors of one format, one below the other (q, k and v as one matrix, say).

        Raises ValueError when formats or row shapes differ.
        """
        first = tensors[0].info
        for other in (tensor.info for tensor in tensors[1:]):
            if (other.format, other.shape[1:]) != (first.format, first.shape[1:]):
                one, two = (f"{info.name} ({info.format} {info.shape})" for info in (first, other))
                raise ValueError(f"{one} and {two} cannot be joined: formats or row lengths differ")
        parts = tuple(part for tensor in tensors for part in tensor.parts)
        order = None
        if any(tensor.order is not None for tensor in tensors):
            starts = np.cumsum([0] + [sum(len(part) for part in tensor.parts) for tensor in tensors])
            pairs = zip(starts, tensors, strict=False)
            order = np.concatenate([start + tensor._row_order() for start, tensor in pairs])
        releases = tuple(release for tensor in tensors for release in tensor.releases)
        num_rows = sum(tensor.info.shape[0] for tensor in tensors)
        return cls(_resized(replace(first, name=name), num_rows), parts, order, releases)

    @property
    def num_rows(self) -> int:
        """Entries of the first axis (1 for a tensor that cannot be cut)."""
        return len(self.order) if self.order is not None else sum(len(part) for part in self.parts)

    @property
    def row_nbytes(self) -> int:
        """Bytes of one row."""
        return int(self.parts[0].shape[1])

    def rows_permuted(self, order: Sequence[int] | RowOrder) -> HostTensor:
        """The tensor whose row i is this one's row order[i]; `order` must name every row once."""
        new = np.asarray(order, np.int64)
        self._check_rows()
        if len(new) != self.num_rows or not np.array_equal(np.sort(new), np.arange(self.num_rows)):
            raise ValueError(f"{self.info.name}: the order is no permutation of its {self.num_rows} rows")
        return replace(self, order=self._row_order()[new])

    def row_slice(self, start: int, stop: int) -> HostTensor:
        """Rows [start, stop): a part of a fused matrix, or a shard along the outputs."""
        self._check_rows()
        if not 0 <= start <= stop <= self.num_rows:
            raise ValueError(f"{self.info.name}: rows {start} to {stop} of {self.num_rows}")
        info = _resized(self.info, stop - start)
        if self.order is not None:
            return replace(self, info=info, order=self.order[start:stop])
        return replace(self, info=info, parts=tuple(self._slices(start, stop)))

    def column_slice(self, start: int, stop: int) -> HostTensor:
        """Columns [start, stop) of a matrix, at block borders: a shard along the inputs."""
        if len(self.info.shape) != 2:
            raise ValueError(f"{self.info.name}: {self.info.shape} is no matrix")
        geometry = GEOMETRY[self.info.format]
        num_rows, num_columns = self.info.shape
        if not 0 <= start <= stop <= num_columns or start % geometry.length or stop % geometry.length:
            blocks = f"blocks of {geometry.length}"
            raise ValueError(f"{self.info.name}: columns {start} to {stop} of {num_columns} in {blocks}")
        first, last = (c // geometry.length * geometry.nbytes for c in (start, stop))
        shape = (num_rows, stop - start)
        info = replace(self.info, shape=shape, nbytes=tensor_nbytes(self.info.format, shape))
        return replace(self, info=info, parts=tuple(part[:, first:last] for part in self.parts))

    def selected(self, index: int, name: str | None = None) -> HostTensor:
        """Entry `index` of the first axis as a tensor of its own (one expert of a stack)."""
        row = self.row_slice(index, index + 1)
        info = replace(row.info, shape=self.info.shape[1:], name=name or self.info.name)
        return HostTensor(info, (_as_rows(info, row.rows()),), None, self.releases)

    def rows(self, start: int = 0, stop: int | None = None) -> Bytes:
        """The bytes of rows [start, stop): uint8 [rows, row bytes], contiguous; a view where they lie so."""
        stop = self.num_rows if stop is None else stop
        if self.order is not None:
            return self._gathered(self.order[start:stop])
        slices = self._slices(start, stop)
        joined = slices[0] if len(slices) == 1 else np.concatenate(slices)
        return np.ascontiguousarray(joined)

    def to_float32(self) -> npt.NDArray[np.float32]:
        """The decoded values, float32 of `info.shape`. Raises UnsupportedModelError for unknown formats."""
        if self.order is None and len(self.parts) == 1:
            return dequantize(self.info.format, self.rows(), self.info.shape)
        values = np.empty((self.num_rows, *self.info.shape[1:]), np.float32)
        step = max(1, _CHUNK_BYTES // max(1, self.row_nbytes))
        for start in range(0, self.num_rows, step):
            rows = self.rows(start, min(start + step, self.num_rows))
            shape = (len(rows), *self.info.shape[1:])
            values[start : start + step] = dequantize(self.info.format, rows, shape)
        return values

    def release(self) -> None:
        """Let go of the file pages behind this tensor: to be called once it has been packed."""
        for release in self.releases:
            release()

    def _check_rows(self) -> None:
        if self.info.shape[:1] != (self.num_rows,):
            raise ValueError(f"{self.info.name}: {self.info.format} {self.info.shape} has no separate rows")

    def _row_order(self) -> RowOrder:
        return np.arange(self.num_rows) if self.order is None else self.order

    def _slices(self, start: int, stop: int) -> list[Bytes]:
        slices, first = [], 0
        for part in self.parts:
            begin, end = max(start - first, 0), min(stop - first, len(part))
            if begin < end:
                slices.append(part[begin:end])
            first += len(part)
        return slices or [self.parts[0][:0]]

    def _gathered(self, order: RowOrder) -> Bytes:
        if len(self.parts) == 1:
            return np.ascontiguousarray(self.parts[0][order])
        rows = np.empty((len(order), self.row_nbytes), np.uint8)
        first = 0
        for part in self.parts:
            inside = (order >= first) & (order < first + len(part))
            rows[inside] = part[order[inside] - first]
            first += len(part)
        return rows


def open_source(files: ModelFiles) -> WeightSource:
    """Open a resolved model's weights. Raises ModelNotFoundError or ModelFormatError."""
    return GGUFFile.open(files.path) if files.kind == "gguf" else SafetensorsFiles.open(files.path)


def stream(source: WeightSource, names: Iterable[str]) -> Iterator[HostTensor]:
    """The named tensors in turn; each one's file pages are released when the next is asked for.

    Raises ModelFormatError naming a tensor that the files do not hold.
    """
    for name in names:
        tensor = HostTensor.of(source, name)
        yield tensor
        tensor.release()


def _as_rows(info: TensorInfo, raw: Bytes) -> Bytes:
    cuttable = len(info.shape) > 1 or (len(info.shape) == 1 and GEOMETRY[info.format].length == 1)
    if not cuttable:
        return raw.reshape(1, info.nbytes)
    return raw.reshape(info.shape[0], tensor_nbytes(info.format, (1, *info.shape[1:])))


def _resized(info: TensorInfo, num_rows: int) -> TensorInfo:
    shape = (num_rows, *info.shape[1:])
    return replace(info, shape=shape, nbytes=tensor_nbytes(info.format, shape))
