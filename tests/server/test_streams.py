"""Streams merged into one: nothing is lost, nothing piles up, and whatever ends it closes them all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from octavo.base.types import Delta
from octavo.server.streams import merged


class Source:
    """A stream of `count` Deltas that never waits; counts those taken from it and knows when it is closed."""

    def __init__(self, name: str, count: int, error: Exception | None = None) -> None:
        self.name = name
        self.taken = 0
        self.closed = False
        self._count = count
        self._error = error

    async def deltas(self) -> AsyncIterator[Delta]:
        try:
            while self.taken < self._count:
                self.taken += 1
                yield Delta(self.name, 0, str(self.taken), (self.taken,))
            if self._error is not None:
                raise self._error
        finally:
            self.closed = True


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


def test_everything_comes_in_the_order_of_each_stream() -> None:
    async def run() -> None:
        sources = [Source("a", 40), Source("b", 0), Source("c", 7)]
        found: dict[int, list[str]] = {0: [], 1: [], 2: []}
        async for number, delta in merged([source.deltas() for source in sources]):
            found[number].append(delta.text)
        assert found == {i: [str(n + 1) for n in range(count)] for i, count in enumerate((40, 0, 7))}

    asyncio.run(run())


def test_a_slow_consumer_holds_the_streams_back_and_closing_closes_them() -> None:
    async def run() -> None:
        sources = [Source(name, 1_000_000) for name in "abc"]
        stream = merged([source.deltas() for source in sources])
        for count in range(1, 6):
            await anext(stream)
            await settle()
            assert sum(source.taken for source in sources) <= count + 3 + 3, "3 wait in line, 3 at its end"
        assert all(source.taken for source in sources), "none is starved"
        await stream.aclose()  # type: ignore[attr-defined]
        assert all(source.closed for source in sources)

    asyncio.run(run())


def test_the_first_error_comes_out_although_others_wait_in_line() -> None:
    async def run() -> None:
        sources = [Source("a", 1_000_000), Source("b", 2, ValueError("broken")), Source("c", 1_000_000)]
        with pytest.raises(ValueError, match="broken"):
            async for _ in merged([source.deltas() for source in sources]):
                await settle()
        assert all(source.closed for source in sources)

    asyncio.run(run())
