"""Random contents of tensors, as the bytes of a format: normal values of a small deviation, or whole random blocks.

Formats with an encoder store values that were drawn. For the others random bits with chosen scales do: every pattern
of their small integers is valid, and speed does not depend on it. Knows no tensor names.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from octavo.weights.formats import DECODERS, ENCODERS, quantize
from octavo.weights.geometry import GEOMETRY, row_nbytes

Bytes = npt.NDArray[np.uint8]

DEVIATION = 0.02
_CHUNK_ELEMENTS = 1 << 22
_SAMPLE_BLOCKS = 2048

# Format -> byte offset of the scale, of the minimum (None without one), and the minimum in scales that makes the
# mean zero: half the range of the integers, negative where the format adds it.
_SCALES: dict[str, tuple[int, int | None, float]] = {
    "Q4_1": (0, 2, -7.5),
    "Q5_0": (0, None, 0.0),
    "Q5_1": (0, 2, -15.5),
    "Q2_K": (80, 82, 1.5),
    "Q3_K": (108, None, 0.0),
    "Q4_K": (0, 2, 7.5),
    "Q5_K": (0, 2, 15.5),
    "Q6_K": (208, None, 0.0),
}

FORMATS = tuple(sorted({*ENCODERS, *_SCALES}))
"""Formats that can be made."""


def random_tensor(format: str, shape: tuple[int, ...], *, seed: int, name: str) -> Iterator[Bytes]:
    """The tensor's bytes in pieces, uint8 each; vectors (norms) are ones in F32, whatever `format` says.

    The same seed and name give the same bytes.
    """
    if len(shape) == 1:
        yield np.ones(shape, "<f4").view(np.uint8)
        return
    generator = np.random.Generator(np.random.SFC64([seed, zlib.crc32(name.encode())]))
    rows, columns = shape
    step = max(1, _CHUNK_ELEMENTS // columns)
    for start in range(0, rows, step):
        count = min(step, rows - start)
        if format in _SCALES:
            yield _random_blocks(format, count * row_nbytes(format, columns), generator)
        else:
            values = generator.standard_normal((count, columns), np.float32)
            values *= np.float32(DEVIATION)
            yield quantize(format, values)


def _random_blocks(format: str, nbytes: int, generator: np.random.Generator) -> Bytes:
    blocks = np.frombuffer(generator.bytes(nbytes), np.uint8).reshape(-1, GEOMETRY[format].nbytes).copy()
    _set_scales(format, blocks, 1.0)
    sample = DECODERS[format](blocks[:_SAMPLE_BLOCKS])
    _set_scales(format, blocks, DEVIATION / float(sample.std()))
    return blocks.reshape(-1)


def _set_scales(format: str, blocks: Bytes, scale: float) -> None:
    at, minimum_at, minimum = _SCALES[format]
    blocks[:, at : at + 2] = np.array([scale], "<f2").view(np.uint8)
    if minimum_at is not None:
        blocks[:, minimum_at : minimum_at + 2] = np.array([scale * minimum], "<f2").view(np.uint8)
