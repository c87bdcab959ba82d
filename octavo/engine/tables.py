"""KvSpace: the page tables of sequences over the one pool, for all KV groups together.

All tables of a sequence grow together, so one page more in length costs one page per group. Knows no queues and no
order of sequences; the scheduler decides who gets pages.
"""

from __future__ import annotations

from collections.abc import Iterable

from octavo.base.pages import longest_alone, most_pages, pages_alone
from octavo.base.types import EngineLimits, PageCopy
from octavo.engine.blocks import GIVEN_BACK, BlockPool
from octavo.engine.prefix import Entry, find_fork, find_hit, first_in_reach, page_digest, page_tokens
from octavo.engine.sequence import Sequence


def too_large_for_pool(limits: EngineLimits, num_tokens: int) -> str | None:
    """Why a prompt of `num_tokens` can never be computed with this pool, with numbers; None if it can."""
    needed = pages_alone(limits.groups, limits.page_size, num_tokens)
    if needed <= limits.num_pages:
        return None
    return (
        f"The prompt has {num_tokens} tokens and needs {needed} KV pages of {limits.page_size} tokens, but the KV "
        f"cache has {limits.num_pages}. Shorten the prompt, or give the KV cache more memory (kv_memory_bytes)."
    )


class KvSpace:
    """Allocation, sharing and publishing of pages for sequences."""

    def __init__(self, limits: EngineLimits) -> None:
        self.limits = limits
        self.pool = BlockPool(limits.num_pages, len(limits.groups))
        self._size = limits.page_size
        self._groups = limits.groups
        self._num_groups = len(limits.groups)
        self._window_pages = most_pages(limits.groups, limits.page_size)
        self._has_windows = any(most is not None for most in self._window_pages)
        self._nothing_new: tuple[tuple[int, ...], ...] = tuple(() for _ in limits.groups)
        # the length of the longest sequence that the whole pool can hold
        self._longest = longest_alone(limits.groups, self._size, limits.num_pages, limits.max_model_len)

    @property
    def longest(self) -> int:
        """The most tokens that a sequence could have if it had the pool for itself."""
        return self._longest

    def fits_alone(self, num_tokens: int) -> bool:
        """Whether a sequence of that many tokens could be computed if it had the pool for itself."""
        return num_tokens <= self._longest

    def next_border(self, seq: Sequence) -> int:
        """The next number of computed tokens at which `publish`, `extend` or `give_back` will have something to do."""
        border = (seq.num_computed // self._size + 1) * self._size
        if self._has_windows:
            for g, group in enumerate(self._groups):
                if group.window is not None:
                    border = min(border, (seq.num_given_back[g] + 1) * self._size + group.window - 1)
        return border

    # ------------------------------------------------------------ entering

    def find_hit(self, seq: Sequence) -> Entry:
        """What the prefix cache can serve of the sequence's tokens."""
        if not self.limits.enable_prefix_caching or seq.wants_prompt_logprobs:
            return Entry(0, self._nothing_new)
        return find_hit(self.pool, self._groups, self._size, seq)

    def find_fork(self, seq: Sequence, source: Sequence) -> Entry | None:
        """What `seq` can share with a sibling completion that has computed their prompt."""
        return find_fork(self._groups, self._size, seq, source)

    def pages_missing(self, seq: Sequence, length: int | None = None) -> int:
        """New pages that a sequence with tables of `length` entries needs to catch up with all its tokens."""
        new = -(-len(seq.tokens) // self._size) - (len(seq.tables[0]) if length is None else length)
        if new <= 0:
            return 0
        return sum(new if most is None else min(new, most) for most in self._window_pages)

    def pages_to_enter(self, seq: Sequence, entry: Entry) -> int:
        """Free pages that the sequence needs to enter and catch up: new ones, copies, and cached ones revived."""
        revived = sum(
            page_id != GIVEN_BACK and self.pool.is_free(page_id) for table in entry.tables for page_id in table
        )
        length = len(entry.tables[0]) + bool(entry.copies)
        return revived + len(entry.copies) + self.pages_missing(seq, length)

    def enter(self, seq: Sequence, entry: Entry) -> list[PageCopy]:
        """Gives the sequence the entry's pages; copies of a shared partial tail are to be made before the step."""
        for g, shared in enumerate(entry.tables):
            for page_id in shared:
                if page_id != GIVEN_BACK:
                    self.pool.retain(page_id)
            seq.tables[g].extend(shared)
            seq.num_given_back[g] = sum(page_id == GIVEN_BACK for page_id in shared)
        seq.num_computed = entry.num_tokens
        seq.num_published = len(entry.tables[0])
        copies = []
        for g, source in enumerate(entry.copies):
            page_id = self.pool.allocate()
            seq.tables[g].append(page_id)
            copies.append(PageCopy(source, page_id))
        return copies

    # ------------------------------------------------------------ advancing

    def room(self, seq: Sequence) -> int:
        """How many tokens the sequence can advance by with its own pages and the free ones."""
        length = len(seq.tables[0]) + self.pool.num_free // self._num_groups
        return length * self._size - seq.num_computed

    def extend(self, seq: Sequence, end: int) -> tuple[tuple[int, ...], ...]:
        """Pages for tokens up to `end`; returns the table entries that the runner does not know yet, per group."""
        wanted = -(-end // self._size)
        for _ in range(wanted - len(seq.tables[0])):
            for table in seq.tables:
                table.append(self.pool.allocate())
        sent, seq.num_sent = seq.num_sent, len(seq.tables[0])
        if sent == seq.num_sent:
            return self._nothing_new
        return tuple(tuple(table[sent:]) for table in seq.tables)

    def is_full(self, seq: Sequence) -> bool:
        """Whether the next token to compute needs a page."""
        return seq.num_computed >= len(seq.tables[0]) * self._size

    def give_back(self, seq: Sequence) -> bool:
        """Releases the pages of window groups that no later token of the sequence can reach; whether there were any."""
        if not self._has_windows:
            return False
        before = sum(seq.num_given_back)
        for g, group in enumerate(self._groups):
            table = seq.tables[g]
            reach = min(first_in_reach(seq.num_computed, group.window, self._size), len(table))
            for index in range(seq.num_given_back[g], reach):
                self.pool.release(table[index])
                table[index] = GIVEN_BACK
            seq.num_given_back[g] = max(reach, seq.num_given_back[g])
        return sum(seq.num_given_back) > before

    def publish(self, seq: Sequence) -> None:
        """Makes the full pages of computed tokens known to the prefix cache."""
        full = seq.num_computed // self._size
        if full == seq.num_published or not self.limits.enable_prefix_caching:
            return
        for index in range(seq.num_published, full):
            digest = page_digest(seq, index, self._size)
            tokens = page_tokens(seq, index, self._size)
            for g, table in enumerate(seq.tables):
                if table[index] != GIVEN_BACK:
                    self.pool.publish(table[index], g, digest, tokens)
        seq.num_published = full

    def computing(self, seq: Sequence, end: int) -> list[bytes]:
        """Digests of the pages that a step from `num_computed` to `end` works on, where all their tokens are known."""
        if not self.limits.enable_prefix_caching:
            return []
        last = min(-(-end // self._size), len(seq.tokens) // self._size)
        return [page_digest(seq, index, self._size) for index in range(seq.num_computed // self._size, last)]

    def next_digest(self, seq: Sequence, entry: Entry) -> bytes | None:
        """The digest of the first page that the sequence would compute itself; None if it is not full."""
        index = entry.num_tokens // self._size
        if not self.limits.enable_prefix_caching or (index + 1) * self._size > len(seq.tokens):
            return None
        return page_digest(seq, index, self._size)

    # ------------------------------------------------------------ leaving

    def release(self, seq: Sequence) -> None:
        """Gives all pages back, the tail first, so that the beginning of a prefix is evicted last."""
        for table in seq.tables:
            for page_id in reversed(table):
                if page_id != GIVEN_BACK:
                    self.pool.release(page_id)
        seq.leave(self._num_groups)

    def check(self, sequences: Iterable[Sequence]) -> None:
        """Proves that no page is lost or owned twice, and that tables cover what is computed (assertions)."""
        alive = list(sequences)
        for seq in alive:
            lengths = {len(table) for table in seq.tables}
            assert len(lengths) == 1, f"{seq.request_id}: tables of lengths {lengths}"
            assert lengths.pop() * self._size >= seq.num_computed, f"{seq.request_id}: tokens without a page"
            for g, group in enumerate(self._groups):
                first = first_in_reach(seq.num_computed, group.window, self._size)
                gap = GIVEN_BACK in seq.tables[g][first:]
                assert not gap, f"{seq.request_id}: a page in reach was given back in group {g}"
        self.pool.check(table for seq in alive for table in seq.tables)
