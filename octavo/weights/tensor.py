"""What the rest of Octavo sees of a weight file: named tensors with a shape, a format and raw bytes.

Owns `TensorInfo` and the `WeightSource` protocol. Does not know any file format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
"""A 1-D array of raw bytes, usually a read-only view of a mapped file."""


@dataclass(frozen=True)
class TensorInfo:
    """A tensor as stored: `shape` outermost first (rows, columns), `format` a `geometry` name."""

    name: str
    shape: tuple[int, ...]
    format: str
    nbytes: int


class WeightSource(Protocol):
    """A set of weight files opened for reading (GGUF or safetensors)."""

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """All tensors by their name in the files."""
        ...

    @property
    def paths(self) -> list[Path]:
        """The files, in order."""
        ...

    def raw(self, name: str) -> Bytes:
        """The tensor's bytes: uint8, 1-D, read-only, a view of the mapped file (no copy)."""
        ...

    def release(self, name: str) -> None:
        """Let go of the tensor's mapped pages; reading them again stays valid."""
        ...

    def close(self) -> None:
        """Drop the mappings; views still held elsewhere stay valid until they are dropped themselves."""
        ...
