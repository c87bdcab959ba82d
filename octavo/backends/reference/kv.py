"""The KV pages of the reference backend: one array [pages, places, 2, G, page_size, hd] in the layout's dtype.

Knows how numbers are narrowed (to nearest, ties to even; int8 with a scale per token and head) and which page holds a
position. Does not know attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from octavo.backends.ops import F32, I32, KvLayout

_STORAGE = {"f32": np.float32, "f16": np.float16, "bf16": np.uint16, "int8": np.int8}
_LEVELS = np.float32(127)


def to_bf16(values: F32) -> npt.NDArray[np.uint16]:
    """The upper halves of the float32 patterns, rounded to nearest, ties to even; NaN stays NaN."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) >> np.uint32(16)
    quiet = (bits >> np.uint32(16)) | np.uint32(0x40)
    return np.where(np.isnan(values), quiet, rounded).astype(np.uint16)


def from_bf16(values: npt.NDArray[np.uint16]) -> F32:
    return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)


def to_int8(values: F32) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float16]]:
    """K and V [2, G, hd] of one token as round(x / scale) and their scales [2, G], float16(max |x| / 127).

    A head whose K or V has no finite scale gets a NaN for K's and a zero for V's: who sees the token gets NaN, who does
    not (a probability of zero) adds an exact zero.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        scales = (np.abs(values).max(axis=-1) / _LEVELS).astype(np.float16)
        broken = ~np.isfinite(scales).all(axis=0)
        inverse = np.where(scales > 0, np.float32(1) / scales.astype(np.float32), np.float32(0)).astype(np.float32)
        inverse[:, broken] = 0
        levels = np.rint(np.clip(np.where(broken[:, None], 0, values) * inverse[..., None], -_LEVELS, _LEVELS))
    scales[0, broken], scales[1, broken] = np.nan, 0
    return levels.astype(np.int8), scales


class ReferenceKv:
    """Pages of all layers; int8's scales in a second array [pages, places, 2, G, page_size]."""

    def __init__(self, layout: KvLayout, num_pages: int) -> None:
        self.layout = layout
        shape = (num_pages, layout.layers_per_page, 2, layout.num_kv_heads, layout.page_size, layout.head_dim)
        self.pages = np.zeros(shape, _STORAGE[layout.dtype])
        self.scales = np.zeros(shape[:-1] if layout.dtype == "int8" else (num_pages, 0), np.float16)
        places = zip(layout.layer_group, layout.layer_place, strict=True)
        self.layers = [ReferenceKvLayer(self, group, place) for group, place in places]

    def zero_pages(self, pages: Sequence[int]) -> None:
        self.pages[list(pages)] = 0
        self.scales[list(pages)] = 0

    def copy_pages(self, pairs: Sequence[tuple[int, int]]) -> None:
        for source, target in pairs:
            self.pages[target] = self.pages[source]
            self.scales[target] = self.scales[source]

    def narrowed(self, values: F32) -> npt.NDArray[np.generic]:
        """Values as they are stored."""
        if self.layout.dtype == "bf16":
            return to_bf16(values)
        with np.errstate(over="ignore"):  # beyond the range of float16 lies infinity
            return values.astype(self.pages.dtype)

    def widened(self, stored: npt.NDArray[np.generic]) -> F32:
        """Stored values as float32."""
        return from_bf16(stored) if self.layout.dtype == "bf16" else stored.astype(np.float32)  # type: ignore[arg-type]


@dataclass(frozen=True)
class ReferenceKvLayer:
    """One layer's share: its group's page tables lead to pages, its place is within them."""

    cache: ReferenceKv
    group: int
    place: int

    def store(self, table: I32, position: int, k: F32, v: F32) -> None:
        """Writes k and v [G, hd] of one position; a page given back by a window group (-1) takes nothing."""
        page, offset = self._locate(table, position)
        if page >= 0:
            pages = self.cache.pages
            if self.cache.layout.dtype == "int8":
                both, scales = to_int8(np.stack([k, v]))
                pages[page, self.place, :, :, offset] = both
                self.cache.scales[page, self.place, :, :, offset] = scales
                return
            pages[page, self.place, 0, :, offset] = self.cache.narrowed(k)
            pages[page, self.place, 1, :, offset] = self.cache.narrowed(v)

    def read(self, table: I32, start: int, stop: int) -> tuple[F32, F32]:
        """K and V [G, stop - start, hd] of the positions [start, stop).

        Raises:
            ValueError: one of them lies in a page that was given back.
        """
        size = self.cache.layout.page_size
        first, last = start // size, -(-stop // size)
        pages = table[first:last]
        if len(pages) < last - first or (pages < 0).any():
            raise ValueError(f"positions {start} to {stop - 1} of KV group {self.group} have no page: {table.tolist()}")
        stored = self.cache.pages[pages, self.place]  # [pages, 2, G, page_size, hd]
        _, _, heads, _, width = stored.shape
        wanted = slice(start - first * size, stop - first * size)
        both = self.cache.widened(stored.transpose(1, 2, 0, 3, 4).reshape(2, heads, -1, width)[:, :, wanted])
        if self.cache.layout.dtype == "int8":
            scales = self.cache.scales[pages, self.place].transpose(1, 2, 0, 3).reshape(2, heads, -1)[:, :, wanted]
            both = both * scales.astype(np.float32)[..., None]
        return np.ascontiguousarray(both[0]), np.ascontiguousarray(both[1])

    def _locate(self, table: I32, position: int) -> tuple[int, int]:
        index, offset = divmod(position, self.cache.layout.page_size)
        if index >= len(table):
            raise ValueError(
                f"position {position} of KV group {self.group} lies beyond its table of {len(table)} pages"
            )
        return int(table[index]), offset
