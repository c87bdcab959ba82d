"""Weights of the CPU backend: matrices packed in their own format, vectors as float32.

Knows how a HostTensor's rows reach the packing kernels and what a loaded tensor takes. Knows no model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from octavo import _kernels
from octavo.base.errors import UnsupportedModelError
from octavo.weights.geometry import GEOMETRY, GGML_TYPES
from octavo.weights.loader import HostTensor
from octavo.weights.tensor import TensorInfo

_FLOAT_BYTES = 4
_NUMBERS = {geometry.format: number for number, geometry in GGML_TYPES.items()}


@dataclass(frozen=True, eq=False)
class CpuWeight:
    """A tensor as the kernels use it. `matrix` and `vector` are None where only sizes are asked for."""

    name: str
    shape: tuple[int, ...]
    format: str
    matrix: _kernels.Matrix | None = None
    vector: _kernels.Vector | None = None

    @property
    def format_number(self) -> int:
        """The format as the kernels number it."""
        return _NUMBERS[self.format]

    def row(self, index: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        """Row `index` of a loaded matrix, dequantized."""
        if self.matrix is None:
            raise ValueError(f"{self.name} is not a loaded matrix")
        values = np.empty(self.shape[1], np.float32)
        self.matrix.row(index, values)
        return values


def described(info: TensorInfo) -> CpuWeight:
    """The weight that loading this tensor would give, without its data; errors as `load`."""
    _check(info)
    return CpuWeight(info.name, info.shape, info.format if len(info.shape) > 1 else "F32")


def weight_bytes(info: TensorInfo) -> int:
    """Bytes of memory the loaded tensor takes; errors as `load`."""
    _check(info)
    if len(info.shape) == 1:
        return math.prod(info.shape) * _FLOAT_BYTES
    return _kernels.matrix_bytes(_NUMBERS[info.format], *info.shape)


def load(tensor: HostTensor, pool: _kernels.Pool, arena: _kernels.WeightArena | None = None) -> CpuWeight:
    """Packs a matrix with the pool's workers, into `arena` where it has room; a vector becomes float32.

    Raises UnsupportedModelError for a format without kernels and for tensors of more than two axes.
    """
    info = tensor.info
    _check(info)
    if len(info.shape) == 1:
        return CpuWeight(info.name, info.shape, "F32", vector=_kernels.Vector(tensor.to_float32()))
    rows, columns = info.shape
    number, parts = _NUMBERS[info.format], list(tensor.parts)
    matrix = _kernels.Matrix(pool, number, rows, columns, parts, tensor.order, arena)
    return CpuWeight(info.name, info.shape, info.format, matrix=matrix)


def _check(info: TensorInfo) -> None:
    if len(info.shape) not in (1, 2):
        raise UnsupportedModelError(
            f"{info.name} has the shape {info.shape}; the CPU backend loads vectors and matrices"
        )
    if len(info.shape) == 2 and not _kernels.has_format(_NUMBERS.get(info.format, -1)):
        known = ", ".join(name for name, number in _NUMBERS.items() if _kernels.has_format(number))
        raise UnsupportedModelError(
            f"{info.name} has the format {info.format}, which is not supported. Known: {known}."
        )
    if len(info.shape) == 2 and info.shape[1] % GEOMETRY[info.format].length:
        raise UnsupportedModelError(
            f"{info.name}: rows of {info.shape[1]} values are not whole {info.format} blocks of "
            f"{GEOMETRY[info.format].length}"
        )
