"""Storage geometry of every tensor format: how many elements share a block, and the bytes of a block.

Owns the table and the size arithmetic. Does not know what the bits of a block mean (`formats/`), nor where
blocks come from (`gguf`, `safetensors`). Source: the GGUF specification's list of tensor types.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class BlockGeometry:
    """A format's block: `length` consecutive elements of one row are stored in `nbytes` bytes."""

    format: str
    length: int
    nbytes: int


def _table() -> dict[int, BlockGeometry]:
    plain = {0: ("F32", 4), 1: ("F16", 2), 24: ("I8", 1), 25: ("I16", 2), 26: ("I32", 4), 27: ("I64", 8)}
    plain |= {28: ("F64", 8), 30: ("BF16", 2)}
    blocks_of_32 = {2: ("Q4_0", 18), 3: ("Q4_1", 20), 6: ("Q5_0", 22), 7: ("Q5_1", 24), 8: ("Q8_0", 34)}
    blocks_of_32 |= {9: ("Q8_1", 36), 20: ("IQ4_NL", 18), 39: ("MXFP4", 17)}
    blocks_of_256 = {
        10: ("Q2_K", 84),
        11: ("Q3_K", 110),
        12: ("Q4_K", 144),
        13: ("Q5_K", 176),
        14: ("Q6_K", 210),
    }
    blocks_of_256 |= {15: ("Q8_K", 292), 16: ("IQ2_XXS", 66), 17: ("IQ2_XS", 74), 18: ("IQ3_XXS", 98)}
    blocks_of_256 |= {19: ("IQ1_S", 50), 21: ("IQ3_S", 110), 22: ("IQ2_S", 82), 23: ("IQ4_XS", 136)}
    blocks_of_256 |= {29: ("IQ1_M", 56), 34: ("TQ1_0", 54), 35: ("TQ2_0", 66)}
    others = {40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18), 42: ("Q2_0", 64, 18)}
    table = {i: BlockGeometry(name, 1, size) for i, (name, size) in plain.items()}
    table |= {i: BlockGeometry(name, 32, size) for i, (name, size) in blocks_of_32.items()}
    table |= {i: BlockGeometry(name, 256, size) for i, (name, size) in blocks_of_256.items()}
    table |= {i: BlockGeometry(name, length, size) for i, (name, length, size) in others.items()}
    return table


GGML_TYPES: Mapping[int, BlockGeometry] = MappingProxyType(_table())
"""GGUF tensor type id -> geometry."""

RETIRED_GGML_TYPES: Mapping[int, str] = MappingProxyType(
    {4: "Q4_2", 5: "Q4_3", 31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8"}
    | {36: "IQ4_NL_4_4", 37: "IQ4_NL_4_8", 38: "IQ4_NL_8_8"}
)
"""GGUF tensor type ids that were once written and have been withdrawn."""

SAFETENSORS_DTYPES: Mapping[str, BlockGeometry] = MappingProxyType(
    {name: BlockGeometry(name, 1, 1) for name in ("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0")}
    | {name: BlockGeometry(name, 1, 1) for name in ("F8_E4M3FNUZ", "F8_E5M2FNUZ")}
    | {name: BlockGeometry(name, 1, 2) for name in ("U16", "I16", "F16", "BF16")}
    | {name: BlockGeometry(name, 1, 4) for name in ("U32", "I32", "F32")}
    | {name: BlockGeometry(name, 1, 8) for name in ("U64", "I64", "F64", "C64")}
    | {"F4": BlockGeometry("F4", 2, 1)}
    | {name: BlockGeometry(name, 4, 3) for name in ("F6_E2M3", "F6_E3M2")}
)
"""Safetensors dtype name -> geometry. Names shared with GGUF mean the same there."""

GEOMETRY: Mapping[str, BlockGeometry] = MappingProxyType(
    {**SAFETENSORS_DTYPES, **{g.format: g for g in GGML_TYPES.values()}}
)
"""Format name -> geometry, of both kinds of file."""


def row_nbytes(format: str, num_columns: int) -> int:
    """Bytes of one row of `num_columns` elements.

    Raises KeyError for an unknown format and ValueError when the row is not a whole number of blocks.
    """
    geometry = GEOMETRY[format]
    if num_columns % geometry.length:
        wanted = f"a multiple of the {format} block of {geometry.length}"
        raise ValueError(f"a row of {num_columns} elements is not {wanted}")
    return num_columns // geometry.length * geometry.nbytes


def tensor_nbytes(format: str, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor of `shape` (outermost first); errors as `row_nbytes`."""
    return math.prod(shape[:-1]) * row_nbytes(format, shape[-1] if shape else 1)
