"""The KV pages of the CPU backend: one allocation, touched by the system as pages are first used.

The layout inside a page is the kernels' (csrc/ops/kv_layout.h). Knows nothing of tables or of who owns a page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from octavo import _kernels
from octavo.backends.ops import KvLayout
from octavo.base.errors import ConfigError

_TILE = 16  # tokens of a tile of the kernels
_TYPES = {"f32": 0, "f16": 1, "bf16": 2, "int8": 3}
_LARGEST_INT8_HEAD = 512  # 32639 * 127 * 512 is under 2^31
_STEPS = {"f32": 1, "f16": 1, "bf16": 2, "int8": 4}  # numbers of a head that one instruction multiplies


@dataclass(frozen=True, eq=False)
class CpuKvLayer:
    """One layer's share. `pages` is None where only sizes are asked for."""

    layout: KvLayout
    group: int
    place: int
    pages: _kernels.KvPages | None = None


class CpuKv:
    """Pages of all layers. Raises ConfigError for a page size that the kernels do not have."""

    def __init__(self, layout: KvLayout, num_pages: int) -> None:
        check_layout(layout)
        self.layout = layout
        self.pages = _kernels.KvPages(
            _TYPES[layout.dtype],
            layout.page_size,
            layout.num_kv_heads,
            layout.head_dim,
            layout.layers_per_page,
            num_pages,
        )
        self.layers = described_layers(layout, self.pages)

    def zero_pages(self, pages: Sequence[int]) -> None:
        self.pages.zero(list(pages))

    def copy_pages(self, pairs: Sequence[tuple[int, int]]) -> None:
        for source, target in pairs:
            self.pages.copy(source, target)


def check_layout(layout: KvLayout) -> None:
    """Raises ConfigError where the kernels cannot serve the layout."""
    if layout.page_size % _TILE:
        raise ConfigError(
            f"a page of {layout.page_size} tokens is no multiple of {_TILE}; choose --block-size {_TILE} or a multiple"
        )
    if layout.head_dim % _STEPS[layout.dtype]:
        raise ConfigError(
            f"--kv-cache-dtype {layout.dtype} needs heads of a multiple of {_STEPS[layout.dtype]} numbers, "
            f"and this model's have {layout.head_dim}; choose f16 or f32"
        )
    if layout.dtype == "int8" and layout.head_dim > _LARGEST_INT8_HEAD:
        raise ConfigError(
            f"--kv-cache-dtype int8 sums exactly up to heads of {_LARGEST_INT8_HEAD} numbers, and this model's have "
            f"{layout.head_dim}; choose bf16, f16 or f32"
        )


def described_layers(layout: KvLayout, pages: _kernels.KvPages | None = None) -> list[CpuKvLayer]:
    """The handles of all layers, by layer index."""
    places = zip(layout.layer_group, layout.layer_place, strict=True)
    return [CpuKvLayer(layout, group, place, pages) for group, place in places]
