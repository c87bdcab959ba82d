"""Prefix hits: the digests of a sequence's full pages, and the longest cached prefix that all KV groups can serve.

Reads the pool's cache, changes nothing in it. A digest includes all tokens before it, adapter and cache salt; the
page's real token ids are compared after a digest is found.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from hashlib import blake2b

from octavo.base.types import KvGroup
from octavo.engine.blocks import GIVEN_BACK, BlockPool
from octavo.engine.sequence import Sequence

_DIGEST_BYTES = 16


@dataclass(frozen=True)
class Entry:
    """How a sequence enters: the first `num_tokens` are there already, in `tables` (one per group, held by others or
    cached); `copies[g]` are pages of a shared partial tail that it must copy before writing. `may_wait`: if another
    sequence computes the next block in this step, more will be there in the next."""

    num_tokens: int
    tables: tuple[tuple[int, ...], ...]
    copies: tuple[int, ...] = ()
    may_wait: bool = False


def first_in_reach(position: int, window: int | None, page_size: int) -> int:
    """Index of the first page that the token at `position` may attend to."""
    return 0 if window is None else max(0, position - window + 1) // page_size


def page_tokens(seq: Sequence, index: int, page_size: int) -> bytes:
    """The packed token ids of a full page."""
    return array("I", seq.tokens[index * page_size : (index + 1) * page_size]).tobytes()


def page_digest(seq: Sequence, index: int, page_size: int) -> bytes:
    """The digest of a full page of the sequence; all tokens of it must be known. Computed once."""
    digests = seq.digests
    while len(digests) <= index:
        at = len(digests)
        if at == 0:
            root = repr((seq.request.adapter, seq.request.cache_salt)).encode()
            parent = blake2b(root, digest_size=_DIGEST_BYTES).digest()
        else:
            parent = digests[-1]
        digests.append(blake2b(parent + page_tokens(seq, at, page_size), digest_size=_DIGEST_BYTES).digest())
    return digests[index]


def find_hit(pool: BlockPool, groups: Seq[KvGroup], page_size: int, seq: Sequence) -> Entry:
    """The longest prefix of whole pages that every group can serve, short of the last token.

    Full groups need all pages; window groups those that the first token after the hit can reach.
    """
    most = (len(seq.tokens) - 1) // page_size
    found: list[list[int]] = [[] for _ in groups]
    has_full = any(group.window is None for group in groups)
    for index in range(most):
        digest = page_digest(seq, index, page_size)
        tokens = page_tokens(seq, index, page_size)
        for g in range(len(groups)):
            page_id = pool.lookup(g, digest, tokens)
            found[g].append(GIVEN_BACK if page_id is None else page_id)
        if has_full and any(
            pages[-1] == GIVEN_BACK for pages, group in zip(found, groups, strict=True) if group.window is None
        ):
            most = index
            break
    runs = [_run_lengths(pages) for pages in found]
    for length in range(most, 0, -1):
        reach = [first_in_reach(length * page_size, group.window, page_size) for group in groups]
        if all(run[length - 1] >= length - first for run, first in zip(runs, reach, strict=True)):
            tables = tuple(
                (GIVEN_BACK,) * first + tuple(pages[first:length]) for pages, first in zip(found, reach, strict=True)
            )
            return Entry(length * page_size, tables, may_wait=True)
    return Entry(0, tuple(() for _ in groups), may_wait=True)


def find_fork(groups: Seq[KvGroup], page_size: int, seq: Sequence, source: Sequence) -> Entry | None:
    """Enter beside `source`, which has computed the same prompt: all of it but the last token, whose logits `seq`
    needs itself. None where the source has not come that far or has given needed pages back."""
    position = seq.num_prompt - 1
    if position < 1 or source.num_computed < position or len(seq.tokens) != seq.num_prompt:
        return None
    whole, partial = divmod(position, page_size)
    tables: list[tuple[int, ...]] = []
    copies: list[int] = []
    for group, table in zip(groups, source.tables, strict=True):
        first = first_in_reach(position, group.window, page_size)
        needed = table[first : whole + bool(partial)]
        if GIVEN_BACK in needed:
            return None
        tables.append((GIVEN_BACK,) * min(first, whole) + tuple(table[first:whole]))
        if partial:
            copies.append(table[whole])
    return Entry(position, tuple(tables), tuple(copies))


def _run_lengths(pages: list[int]) -> list[int]:
    """For each index, how many pages in a row up to it are there."""
    runs: list[int] = []
    run = 0
    for page_id in pages:
        run = 0 if page_id == GIVEN_BACK else run + 1
        runs.append(run)
    return runs
