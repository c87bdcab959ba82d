"""BlockPool: the equal pages that all KV groups share; who holds them, and which still hold a known prefix.

One intrusive list of the pages nobody holds, in eviction order, is both the free list and the cache. Knows page ids,
counts and digests; knows nothing of sequences, tensors or what a page looks like inside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

GIVEN_BACK = -1  # in a page table: a page that a window group does not hold (any more)


class Page:
    """One page: `refs` tables hold it; `digest` names the prefix it ends, `tokens` are its packed token ids.

    `before` and `after` link the free list while nobody holds it.
    """

    __slots__ = ("after", "before", "digest", "group", "id", "refs", "tokens")

    def __init__(self, id: int) -> None:
        self.id = id
        self.refs = 0
        self.group = -1
        self.digest: bytes | None = None
        self.tokens = b""
        self.before: Page | None = None
        self.after: Page | None = None


class FreeList:
    """Doubly linked pages in eviction order: the head is taken first. Removal from the middle is O(1)."""

    def __init__(self) -> None:
        self._sentinel = Page(-1)
        self._sentinel.before = self._sentinel.after = self._sentinel
        self.length = 0

    def push_back(self, page: Page) -> None:
        """The last to be evicted: a page whose content may be asked for again."""
        assert self._sentinel.before is not None
        self._link(page, self._sentinel.before, self._sentinel)

    def push_front(self, page: Page) -> None:
        """The first to be evicted: a page without a known content."""
        assert self._sentinel.after is not None
        self._link(page, self._sentinel, self._sentinel.after)

    def pop_front(self) -> Page | None:
        page = self._sentinel.after
        if page is None or page is self._sentinel:
            return None
        self.remove(page)
        return page

    def remove(self, page: Page) -> None:
        before, after = page.before, page.after
        assert before is not None and after is not None
        before.after, after.before = after, before
        page.before = page.after = None
        self.length -= 1

    def pages(self) -> list[Page]:
        """All pages, next to be evicted first; walks both directions' links (an assertion)."""
        found: list[Page] = []
        page = self._sentinel.after
        while page is not None and page is not self._sentinel:
            found.append(page)
            assert page.after is not None and page.after.before is page, f"page {page.id}: broken free list"
            page = page.after
        assert len(found) == self.length, f"free list holds {len(found)} pages, counts {self.length}"
        return found

    def _link(self, page: Page, before: Page, after: Page) -> None:
        page.before, page.after = before, after
        before.after = after.before = page
        self.length += 1


class BlockPool:
    """`num_pages` pages. A page is held by one or more tables, or is in the free list; a published page may be both
    found by its digest and free: then the next to look it up revives it, or an allocation evicts it."""

    def __init__(self, num_pages: int, num_groups: int) -> None:
        self._pages = [Page(i) for i in range(num_pages)]
        self._free = FreeList()
        for page in self._pages:
            self._free.push_back(page)
        self._cached: tuple[dict[bytes, Page], ...] = tuple({} for _ in range(num_groups))
        self._fresh: list[int] = []

    @property
    def num_pages(self) -> int:
        return len(self._pages)

    @property
    def num_free(self) -> int:
        """Pages that an allocation can have now, cached ones included."""
        return self._free.length

    def allocate(self) -> int:
        """A page of no known content, held once. The caller has looked at `num_free`."""
        page = self._free.pop_front()
        assert page is not None, "the pool is empty: the scheduler must look at num_free first"
        self._forget(page)
        page.refs = 1
        self._fresh.append(page.id)
        return page.id

    def retain(self, page_id: int) -> None:
        """One more table holds the page; a free one is revived."""
        page = self._pages[page_id]
        if page.refs == 0:
            self._free.remove(page)
        page.refs += 1

    def release(self, page_id: int) -> None:
        """One table less holds the page; the last one puts it on the free list."""
        page = self._pages[page_id]
        assert page.refs > 0, f"page {page_id} is released more often than held"
        page.refs -= 1
        if page.refs == 0:
            if page.digest is None:
                self._free.push_front(page)
            else:
                self._free.push_back(page)

    def publish(self, page_id: int, group: int, digest: bytes, tokens: bytes) -> None:
        """The page now holds `tokens` after the prefix that `digest` includes. A second page with the same content
        stays unknown: tables are append-only, so nobody's table is changed to the first."""
        page = self._pages[page_id]
        assert page.refs > 0, f"page {page_id} is published but not held"
        if page.digest is not None or digest in self._cached[group]:
            return
        page.digest, page.group, page.tokens = digest, group, tokens
        self._cached[group][digest] = page

    def lookup(self, group: int, digest: bytes, tokens: bytes) -> int | None:
        """The page of that digest whose token ids really are `tokens`."""
        page = self._cached[group].get(digest)
        return page.id if page is not None and page.tokens == tokens else None

    def is_free(self, page_id: int) -> bool:
        return self._pages[page_id].refs == 0

    def drain_fresh(self) -> tuple[int, ...]:
        """Pages allocated since the last call: they are to be zeroed before use."""
        fresh = tuple(self._fresh)
        self._fresh.clear()
        return fresh

    def forget_all(self) -> None:
        """Empties the prefix cache; pages in use stay in use."""
        for cached in self._cached:
            for page in list(cached.values()):
                self._forget(page)

    def _forget(self, page: Page) -> None:
        if page.digest is not None:
            del self._cached[page.group][page.digest]
            page.digest, page.group, page.tokens = None, -1, b""

    def check(self, tables: Iterable[Iterable[int]]) -> None:
        """Proves that no page is lost or owned twice: counts equal the tables that hold a page, the free list has
        exactly the others, and the cache finds each published page and no other.

        Args:
            tables: every page table that holds pages; GIVEN_BACK entries are skipped.
        """
        held: Counter[int] = Counter()
        for table in tables:
            mine = [page_id for page_id in table if page_id != GIVEN_BACK]
            assert len(mine) == len(set(mine)), "a table holds a page twice"
            held.update(mine)
        free = {page.id for page in self._free.pages()}
        for page in self._pages:
            assert page.refs == held[page.id], f"page {page.id}: {page.refs} refs, {held[page.id]} tables"
            assert (page.refs == 0) == (page.id in free), f"page {page.id} is lost or both held and free"
            if page.digest is not None:
                assert self._cached[page.group].get(page.digest) is page, f"page {page.id}: cache lost it"
        published = sum(page.digest is not None for page in self._pages)
        assert published == sum(map(len, self._cached)), "the cache finds pages that are not published"
