"""Plain encoders for the block formats that the package only decodes: round to nearest, no search for better scales.

For tests, which need a model in every format. Every encoder maps values [n, block length] to blocks [n, block bytes];
the meaning of the bits is that of `octavo.weights.formats.gguf_blocks`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from octavo.weights.formats import ENCODERS as PLAIN

Blocks = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]


def _half(values: F32) -> tuple[F32, Blocks]:
    """[n] or [n, 1] floats as the halves that are stored: their values [n, 1], and their bytes [n, 2]."""
    stored = values.reshape(-1, 1).astype("<f2")
    return stored.astype(np.float32), stored.view(np.uint8)


def _divided(values: F32, by: F32) -> F32:
    return np.divide(values, by, out=np.zeros(np.broadcast_shapes(values.shape, by.shape), np.float32), where=by != 0)


def _rounded(values: F32, low: int, high: int) -> Blocks:
    """Whole numbers as offsets from `low`."""
    return (np.clip(np.rint(values), low, high) - low).astype(np.uint8)


def _extreme(values: F32) -> F32:
    """The value of the largest magnitude along the last axis, with its sign."""
    at = np.abs(values).argmax(axis=-1)[..., None]
    return np.take_along_axis(values, at, axis=-1)[..., 0]


def _nibbles(q: Blocks) -> Blocks:
    return q[:, :16] | q[:, 16:] << 4


def _fifth_bits(q: Blocks) -> Blocks:
    return np.packbits(q >> 4, axis=1, bitorder="little")


def _with_minimum(values: F32, largest: int) -> tuple[Blocks, Blocks, Blocks]:
    low, minimum = _half(values.min(axis=1))
    d, scale = _half((values.max(axis=1) - low[:, 0]) / np.float32(largest))
    return scale, minimum, _rounded(_divided(values - low, d), 0, largest)


def _q4_1(values: F32) -> Blocks:
    scale, minimum, q = _with_minimum(values, 15)
    return np.concatenate([scale, minimum, _nibbles(q)], axis=1)


def _q5_0(values: F32) -> Blocks:
    d, scale = _half(_extreme(values) / np.float32(-16))
    q = _rounded(_divided(values, d), -16, 15)
    return np.concatenate([scale, _fifth_bits(q), _nibbles(q & 15)], axis=1)


def _q5_1(values: F32) -> Blocks:
    scale, minimum, q = _with_minimum(values, 31)
    return np.concatenate([scale, minimum, _fifth_bits(q), _nibbles(q & 15)], axis=1)


def _two_bits(q: Blocks) -> Blocks:
    """[n, 256] of 0..3 -> [n, 64]: four planes of 32 values in each 32 bytes."""
    planes = q.reshape(-1, 2, 4, 32)
    return (planes[:, :, 0] | planes[:, :, 1] << 2 | planes[:, :, 2] << 4 | planes[:, :, 3] << 6).reshape(-1, 64)


def _bit_planes(q: Blocks) -> Blocks:
    """[n, 256] of 0..1 -> [n, 32]: bit g of byte j is value 32 g + j."""
    return np.packbits(q.reshape(-1, 8, 32).transpose(0, 2, 1), axis=2, bitorder="little").reshape(-1, 32)


def _scales_and_minima(values: F32, group: int, levels: int, largest: int
                       ) -> tuple[Blocks, Blocks, Blocks, Blocks, Blocks]:  # fmt: skip
    """x = d * scale * q - dmin * minimum over groups: bytes of d and dmin, scales, minima, and q [n, 256]."""
    groups = values.reshape(-1, 256 // group, group)
    below = np.maximum(-groups.min(axis=2), np.float32(0))
    spread = (groups.max(axis=2) + below) / np.float32(levels)
    d, d_bytes = _half(np.maximum(spread, 0).max(axis=1) / np.float32(largest))
    dmin, dmin_bytes = _half(below.max(axis=1) / np.float32(largest))
    scales, minima = (_rounded(_divided(x, by), 0, largest) for x, by in ((spread, d), (below, dmin)))
    scale = (d * scales.astype(np.float32))[..., None]
    minimum = (dmin * minima.astype(np.float32))[..., None]
    q = _rounded(_divided(groups + minimum, scale), 0, levels)
    return d_bytes, dmin_bytes, scales, minima, q.reshape(-1, 256)


def _q2_k(values: F32) -> Blocks:
    d, dmin, scales, minima, q = _scales_and_minima(values, 16, 3, 15)
    return np.concatenate([scales | minima << 4, _two_bits(q), d, dmin], axis=1)


def _signed_scales(values: F32, lowest: int, largest: int) -> tuple[Blocks, F32, F32]:
    """x = d * scale * q over 16 groups, q from `lowest`: bytes of d, scales (whole numbers), d * scale [n, 16, 1]."""
    wanted = _extreme(values.reshape(-1, 16, 16)) / np.float32(lowest)
    d, d_bytes = _half(np.abs(wanted).max(axis=1) / np.float32(largest))
    scales = np.clip(np.rint(_divided(wanted, d)), -largest, largest).astype(np.float32)
    return d_bytes, scales, (d * scales)[..., None]


def _q3_k(values: F32) -> Blocks:
    d, scales, scale = _signed_scales(values, -4, 31)
    q = _rounded(_divided(values.reshape(-1, 16, 16), scale), -4, 3).reshape(-1, 256)
    s = (scales + 32).astype(np.uint8)
    high = (s >> 4).reshape(-1, 4, 4)
    packed = high[:, 0] | high[:, 1] << 2 | high[:, 2] << 4 | high[:, 3] << 6
    low = (s[:, :8] & 15) | (s[:, 8:] & 15) << 4
    return np.concatenate([_bit_planes(q >> 2), _two_bits(q & 3), low, packed, d], axis=1)


def _six_bit_scales(scales: Blocks, minima: Blocks) -> Blocks:
    first = scales[:, :4] | scales[:, 4:] >> 4 << 6
    second = minima[:, :4] | minima[:, 4:] >> 4 << 6
    return np.concatenate([first, second, scales[:, 4:] & 15 | (minima[:, 4:] & 15) << 4], axis=1)


def _four_bits(q: Blocks) -> Blocks:
    pairs = q.reshape(-1, 4, 2, 32)
    return (pairs[:, :, 0] | pairs[:, :, 1] << 4).reshape(-1, 128)


def _q4_k(values: F32) -> Blocks:
    d, dmin, scales, minima, q = _scales_and_minima(values, 32, 15, 63)
    return np.concatenate([d, dmin, _six_bit_scales(scales, minima), _four_bits(q)], axis=1)


def _q5_k(values: F32) -> Blocks:
    d, dmin, scales, minima, q = _scales_and_minima(values, 32, 31, 63)
    packed = _six_bit_scales(scales, minima)
    return np.concatenate([d, dmin, packed, _bit_planes(q >> 4), _four_bits(q & 15)], axis=1)


def _q6_k(values: F32) -> Blocks:
    d, scales, scale = _signed_scales(values, -32, 127)
    q = _rounded(_divided(values.reshape(-1, 16, 16), scale), -32, 31).reshape(-1, 256)
    low = (q & 15).reshape(-1, 2, 2, 64)
    nibbles = (low[:, :, 0] | low[:, :, 1] << 4).reshape(-1, 128)
    return np.concatenate([nibbles, _two_bits(q >> 4), scales.astype(np.int8).view(np.uint8), d], axis=1)


ENCODERS: Mapping[str, Callable[[F32], Blocks]] = {
    **PLAIN,
    "Q4_1": _q4_1,
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q2_K": _q2_k,
    "Q3_K": _q3_k,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
}
"""Format -> values [n, block length] to blocks [n, block bytes], for every format with kernels."""
