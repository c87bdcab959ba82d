"""What the bits of a tensor's blocks mean, by format name.

Owns the choice of decoder and encoder and the chunking. Each module of this folder knows some formats and
none of its siblings; a new one is added to the two tables here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from octavo.base.errors import UnsupportedModelError
from octavo.weights.formats import gguf_blocks
from octavo.weights.geometry import GEOMETRY, tensor_nbytes

DECODERS: Mapping[str, Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]] = gguf_blocks.DECODERS
ENCODERS: Mapping[str, Callable[[npt.NDArray[np.float32]], npt.NDArray[np.uint8]]] = gguf_blocks.ENCODERS

_CHUNK_ELEMENTS = 1 << 16
"""Values decoded at a time: few enough to stay in the cache between NumPy's passes."""


def dequantize(format: str, raw: npt.NDArray[np.uint8], shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """The values of a tensor: float32 of `shape`, from its bytes (uint8, in any contiguous shape).

    Raises UnsupportedModelError for a format without a decoder, ValueError when bytes and shape disagree.
    """
    decode = DECODERS.get(format)
    if decode is None:
        known = ", ".join(sorted(DECODERS))
        raise UnsupportedModelError(f"tensors of format {format} cannot be decoded; known: {known}")
    if raw.size != (expected := tensor_nbytes(format, shape)):
        raise ValueError(f"{format} {shape} takes {expected} bytes, got {raw.size}")
    geometry = GEOMETRY[format]
    blocks = np.ascontiguousarray(raw).reshape(-1, geometry.nbytes)
    values = np.empty((len(blocks), geometry.length), np.float32)
    step = _CHUNK_ELEMENTS // geometry.length
    with np.errstate(over="ignore", invalid="ignore"):  # stored infinities stay what they are
        for start in range(0, len(blocks), step):
            values[start : start + step] = decode(blocks[start : start + step])
    return values.reshape(shape)


def quantize(format: str, values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """The bytes (uint8, 1-D) that store `values` [..., columns] in `format`, by its plain reference encoder.

    Raises UnsupportedModelError for a format without an encoder, ValueError when rows are no whole blocks.
    """
    encode = ENCODERS.get(format)
    if encode is None:
        known = ", ".join(sorted(ENCODERS))
        raise UnsupportedModelError(f"tensors cannot be encoded as {format}; known: {known}")
    geometry = GEOMETRY[format]
    encoded = np.empty(tensor_nbytes(format, values.shape), np.uint8)
    blocks = encoded.reshape(-1, geometry.nbytes)
    groups = np.ascontiguousarray(values, np.float32).reshape(-1, geometry.length)
    step = _CHUNK_ELEMENTS // geometry.length
    for start in range(0, len(groups), step):
        blocks[start : start + step] = encode(groups[start : start + step])
    return encoded
