"""Ordered queues of sequences and the row slots they run in. Knows keys, not pages or plans."""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterator

from octavo.engine.sequence import Key, Sequence


class SequenceQueue:
    """Sequences in the order of their keys: the first is served first, the last is preempted first."""

    def __init__(self) -> None:
        self._keys: list[Key] = []
        self._sequences: list[Sequence] = []

    def __len__(self) -> int:
        return len(self._sequences)

    def __iter__(self) -> Iterator[Sequence]:
        return iter(self._sequences)

    def add(self, seq: Sequence) -> None:
        at = bisect_left(self._keys, seq.key)
        self._keys.insert(at, seq.key)
        self._sequences.insert(at, seq)

    def remove(self, seq: Sequence) -> None:
        at = bisect_left(self._keys, seq.key)
        assert self._sequences[at] is seq, f"{seq.request_id} is not in this queue"
        del self._keys[at], self._sequences[at]

    def last(self) -> Sequence:
        return self._sequences[-1]

    def snapshot(self) -> list[Sequence]:
        """The sequences now, to walk while the queue changes."""
        return list(self._sequences)


class RowSlots:
    """The runner's row slots: the lowest free one is taken; those left since the last plan are to be cleared."""

    def __init__(self, count: int) -> None:
        self._free = list(range(count))
        self._left: list[int] = []

    def __len__(self) -> int:
        return len(self._free)

    def take(self) -> int:
        return heapq.heappop(self._free)

    def leave(self, slot: int) -> None:
        heapq.heappush(self._free, slot)
        self._left.append(slot)

    def drain_left(self) -> tuple[int, ...]:
        left = tuple(self._left)
        self._left.clear()
        return left
