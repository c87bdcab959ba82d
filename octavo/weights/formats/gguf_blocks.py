"""GGUF's block formats in NumPy: decodes plain, 32-wide and K types, encodes the plain ones, Q8_0 and Q4_0.

Owns the meaning of the bits. Every decoder maps blocks [n, block bytes] to float32 [n, block length], in the
order of roundings of the format's definition (products of scales in float32 first). Does not know tensors or
files. Source: ggml's block definitions. Letters: d is the block's scale (a half), q the small integers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

Blocks = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]
SmallInts = npt.NDArray[np.integer[Any]]

_NIBBLES = np.array([0, 4], np.uint8)[:, None]
_PAIRS = np.array([0, 2, 4, 6], np.uint8)[:, None]
_BITS = np.arange(8, dtype=np.uint8)[:, None]


def _plain(dtype: str) -> Callable[[Blocks], F32]:
    def decode(blocks: Blocks) -> F32:
        return blocks.view(dtype).astype(np.float32)

    return decode


def _bf16(blocks: Blocks) -> F32:
    return (blocks.view("<u2").astype(np.uint32) << 16).view(np.float32)


def _half(blocks: Blocks, at: int) -> F32:
    """The half at byte `at` of each block: [n, 1]."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2").astype(np.float32)


def _two_nibbles(packed: Blocks) -> Blocks:
    """[n, k] bytes -> [n, 2k]: all low nibbles, then all high ones."""
    return np.concatenate([packed & 15, packed >> 4], axis=1)


def _fifth_bits(packed: Blocks) -> SmallInts:
    """[n, 4] bytes of a little-endian u32 -> [n, 32]: bit e as 0 or 16."""
    return np.unpackbits(packed, axis=1, bitorder="little") << 4


def _q4_0(blocks: Blocks) -> F32:
    return _half(blocks, 0) * (_two_nibbles(blocks[:, 2:]).astype(np.float32) - 8)


def _q4_1(blocks: Blocks) -> F32:
    return _half(blocks, 0) * _two_nibbles(blocks[:, 4:]).astype(np.float32) + _half(blocks, 2)


def _q5_0(blocks: Blocks) -> F32:
    q = _two_nibbles(blocks[:, 6:]) | _fifth_bits(blocks[:, 2:6])
    return _half(blocks, 0) * (q.astype(np.float32) - 16)


def _q5_1(blocks: Blocks) -> F32:
    q = _two_nibbles(blocks[:, 8:]) | _fifth_bits(blocks[:, 4:8])
    return _half(blocks, 0) * q.astype(np.float32) + _half(blocks, 2)


def _q8_0(blocks: Blocks) -> F32:
    return _half(blocks, 0) * blocks[:, 2:].view(np.int8).astype(np.float32)


def _two_bits(packed: Blocks) -> SmallInts:
    """[n, 64] -> [n, 8, 32]: 32 bytes hold four planes of 32 two-bit values, lowest bits first."""
    return (packed.reshape(-1, 2, 1, 32) >> _PAIRS & 3).reshape(-1, 8, 32)


def _q2_k(blocks: Blocks) -> F32:
    scales = blocks[:, :16]
    scale = _half(blocks, 80) * (scales & 15).astype(np.float32)
    minimum = _half(blocks, 82) * (scales >> 4).astype(np.float32)
    q = _two_bits(blocks[:, 16:80]).reshape(-1, 16, 16).astype(np.float32)
    return (scale[:, :, None] * q - minimum[:, :, None]).reshape(-1, 256)


def _q3_k(blocks: Blocks) -> F32:
    packed = blocks[:, 96:108]
    high = (packed[:, None, 8:] >> _PAIRS & 3).reshape(-1, 16)
    scales = (_two_nibbles(packed[:, :8]) | high << 4).astype(np.float32) - 32
    third_bits = blocks[:, None, :32] >> _BITS & 1
    q = (_two_bits(blocks[:, 32:96]) | third_bits << 2).astype(np.float32) - 4
    scale = _half(blocks, 108) * scales
    return (scale[:, :, None] * q.reshape(-1, 16, 16)).reshape(-1, 256)


def _six_bit_scales(packed: Blocks) -> tuple[Blocks, Blocks]:
    """The 12 bytes of Q4_K and Q5_K -> eight scales and eight minima, [n, 8] each."""
    first, second, third = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = np.concatenate([first & 63, third & 15 | first >> 6 << 4], axis=1)
    minima = np.concatenate([second & 63, third >> 4 | second >> 6 << 4], axis=1)
    return scales, minima


def _eight_groups(blocks: Blocks, q: SmallInts) -> F32:
    """The common end of Q4_K and Q5_K: q [n, 8, 32] with the blocks' scales and minima."""
    scales, minima = _six_bit_scales(blocks[:, 4:16])
    scale = _half(blocks, 0) * scales.astype(np.float32)
    minimum = _half(blocks, 2) * minima.astype(np.float32)
    return (scale[:, :, None] * q.astype(np.float32) - minimum[:, :, None]).reshape(-1, 256)


def _four_bits(packed: Blocks) -> SmallInts:
    """[n, 128] -> [n, 8, 32]: 32 bytes hold one group in their low nibbles, the next in the high ones."""
    return (packed.reshape(-1, 4, 1, 32) >> _NIBBLES & 15).reshape(-1, 8, 32)


def _q4_k(blocks: Blocks) -> F32:
    return _eight_groups(blocks, _four_bits(blocks[:, 16:]))


def _q5_k(blocks: Blocks) -> F32:
    fifth_bits = blocks[:, None, 16:48] >> _BITS & 1
    return _eight_groups(blocks, _four_bits(blocks[:, 48:]) | fifth_bits << 4)


def _q6_k(blocks: Blocks) -> F32:
    low = (blocks[:, :128].reshape(-1, 2, 1, 64) >> _NIBBLES & 15).reshape(-1, 8, 32)
    q = (low | _two_bits(blocks[:, 128:192]) << 4).astype(np.float32) - 32
    scale = _half(blocks, 208) * blocks[:, 192:208].view(np.int8).astype(np.float32)
    return (scale[:, :, None] * q.reshape(-1, 16, 16)).reshape(-1, 256)


DECODERS: Mapping[str, Callable[[Blocks], F32]] = MappingProxyType(
    {"F32": _plain("<f4"), "F16": _plain("<f2"), "BF16": _bf16}
    | {"Q4_0": _q4_0, "Q4_1": _q4_1, "Q5_0": _q5_0, "Q5_1": _q5_1, "Q8_0": _q8_0}
    | {"Q2_K": _q2_k, "Q3_K": _q3_k, "Q4_K": _q4_k, "Q5_K": _q5_k, "Q6_K": _q6_k}
)
"""Format -> blocks [n, block bytes] to values [n, block length]."""


def _encode_f32(values: F32) -> Blocks:
    return values.astype("<f4").view(np.uint8)


def _encode_f16(values: F32) -> Blocks:
    return values.astype("<f2").view(np.uint8)


def _encode_bf16(values: F32) -> Blocks:
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + (0x7FFF + (bits >> 16 & 1))) >> 16
    quiet_nan = bits >> 16 | 0x40
    return np.where(np.isnan(values), quiet_nan, rounded).astype("<u2").view(np.uint8)


def _encode_q8_0(values: F32) -> Blocks:
    d = np.abs(values).max(axis=1, keepdims=True) / np.float32(127)
    scaled = values * _inverse(d)
    rounded = np.trunc(scaled + np.copysign(np.float32(0.5), scaled))  # halves go away from zero
    return np.concatenate([d.astype("<f2").view(np.uint8), rounded.astype(np.int8).view(np.uint8)], axis=1)


def _encode_q4_0(values: F32) -> Blocks:
    extreme = np.take_along_axis(values, np.abs(values).argmax(axis=1)[:, None], axis=1)
    d = extreme / np.float32(-8)
    q = np.clip(np.trunc(values * _inverse(d) + np.float32(8.5)), 0, 15).astype(np.uint8)
    return np.concatenate([d.astype("<f2").view(np.uint8), q[:, :16] | q[:, 16:] << 4], axis=1)


def _inverse(d: F32) -> F32:
    return np.divide(np.float32(1), d, out=np.zeros_like(d), where=d != 0)


ENCODERS: Mapping[str, Callable[[F32], Blocks]] = MappingProxyType(
    {"F32": _encode_f32, "F16": _encode_f16, "BF16": _encode_bf16} | {"Q8_0": _encode_q8_0, "Q4_0": _encode_q4_0}
)
"""Format -> values [n, block length] to blocks [n, block bytes]."""
