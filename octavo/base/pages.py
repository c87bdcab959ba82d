"""How many KV pages a sequence holds: the calculation that the memory plan and the scheduler share.

Knows groups and page sizes; knows no pool and no memory.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

from octavo.base.types import KvGroup


def most_pages(groups: Sequence[KvGroup], page_size: int) -> list[int | None]:
    """Per group, the most pages that a window and the token at its end can touch; None for a group without window."""
    return [None if group.window is None else (group.window + page_size - 2) // page_size + 1 for group in groups]


def pages_alone(groups: Sequence[KvGroup], page_size: int, num_tokens: int) -> int:
    """The most pages a sequence holds on its way to `num_tokens` computed tokens when it advances page by page."""
    whole = -(-num_tokens // page_size)
    return sum(whole if most is None else min(whole, most) for most in most_pages(groups, page_size))


def longest_alone(groups: Sequence[KvGroup], page_size: int, num_pages: int, at_most: int) -> int:
    """The longest sequence, in tokens up to `at_most`, that `num_pages` can hold."""
    lengths = range(page_size, at_most + page_size, page_size)
    fitting = bisect_right(lengths, num_pages, key=lambda length: pages_alone(groups, page_size, length))
    return min(at_most, fitting * page_size)
