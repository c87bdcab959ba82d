"""The border seen from the frontend: what an engine client is, and the one that runs the engine in this process.

`octavo.engine.process` has the one that starts a child process. Knows no text and no streams.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol, runtime_checkable

from octavo.base.errors import EngineDeadError, OctavoError
from octavo.base.types import EngineStats, Request, StepEvents
from octavo.engine.core import EngineCore


class EngineClient(Protocol):
    """Requests in, token events out. Methods are called from one thread, the async ones from one event loop at a
    time."""

    @property
    def alive(self) -> bool:
        """False once the engine cannot serve any more."""

    def add(self, request: Request) -> None:
        """Hands a request over.

        Raises:
            EngineDeadError: nobody is there to serve it.
        """

    def abort(self, request_id: str, index: int | None = None) -> None:
        """Ends a request or one completion of it; nothing to do if it is unknown or finished."""

    async def start(self) -> None:
        """Binds the client to the running event loop. Cheap if that is done.

        Raises:
            OctavoError: another event loop is using it now.
        """

    async def events(self) -> list[StepEvents]:
        """Waits until there is something, and returns what steps have yielded since the last call, in order.

        Raises:
            EngineDeadError: the engine has ended; what it sent before has been returned before.
        """

    async def stats(self) -> EngineStats: ...

    async def close(self) -> None: ...


def leave_loop(bound: asyncio.AbstractEventLoop | None, wake: asyncio.Event) -> None:
    """Takes a client away from the event loop that it is bound to: whoever waits for `wake` there looks again when
    that loop goes on.

    Raises:
        OctavoError: it is running, in another thread.
    """
    if bound is None or bound.is_closed():
        return
    if bound.is_running():
        raise OctavoError("This engine is in use by an event loop in another thread. Use it from one loop at a time.")
    wake.set()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Holds a Ctrl-C back until the block is done, so that it cannot leave an engine in the middle of a change."""
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: held.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if held:
            handler(*held[0])


@runtime_checkable
class SteppingClient(Protocol):
    """A client whose engine runs in the caller's thread."""

    def step(self) -> StepEvents:
        """Goes on to the next step and returns what the last one yielded."""


class InlineClient:
    """The engine in this process. Either `step` it, or await `events`: then steps run in a worker thread."""

    def __init__(self, core: EngineCore) -> None:
        self._core = core
        self._death: str | None = None
        self._stepping = False
        self._inbox: list[tuple[str, int | None] | Request] = []
        self._missed: list[StepEvents] = []  # came out after nobody waited for them any more
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()

    @property
    def alive(self) -> bool:
        return self._death is None

    def add(self, request: Request) -> None:
        self._check()
        self._deliver(request)

    def abort(self, request_id: str, index: int | None = None) -> None:
        if self._death is None:
            self._deliver((request_id, index))

    def step(self) -> StepEvents:
        """Lands the step in flight in this thread and launches the next: other workers compute while the caller deals
        with what it gets. An exception drops all requests, an interrupt comes after the step; either way the engine
        stays usable."""
        self._check()
        with uninterrupted():
            try:
                return self._core.turn()
            except BaseException:
                self._core.drop_all()
                raise

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            leave_loop(self._loop, self._wake)
            self._loop, self._wake = loop, asyncio.Event()

    async def events(self) -> list[StepEvents]:
        await self.start()
        self._check()
        if self._missed:
            missed, self._missed = self._missed, []
            return missed
        while not self._core.has_work:
            self._wake.clear()
            await self._wake.wait()
            await self.start()
            self._check()
        self._stepping = True
        step = asyncio.ensure_future(asyncio.to_thread(self._core.turn))
        try:
            return [await asyncio.shield(step)]
        except asyncio.CancelledError:
            await asyncio.wait([step])  # the engine belongs to that thread until its step is done
            if step.exception() is None:
                self._missed = [step.result()]
            raise
        except Exception as e:
            self._death = f"The engine ended after an internal error: {type(e).__name__}: {e}"
            raise EngineDeadError(self._death) from e
        finally:
            self._stepping = False
            inbox, self._inbox = self._inbox, []
            for item in inbox:
                self._apply(item)

    async def stats(self) -> EngineStats:
        self._check()
        return self._core.stats()

    async def close(self) -> None:
        self.shut()

    def shut(self) -> None:
        """Ends the engine, from a caller without an event loop."""
        if self._death is None:
            self._death = "The engine was closed."
            self._wake.set()
            self._core.close()

    def _check(self) -> None:
        if self._death is not None:
            raise EngineDeadError(self._death)

    def _deliver(self, item: tuple[str, int | None] | Request) -> None:
        """To the core now, or after the step that a worker thread is in."""
        if self._stepping:
            self._inbox.append(item)
        else:
            self._apply(item)
        self._wake.set()

    def _apply(self, item: tuple[str, int | None] | Request) -> None:
        with uninterrupted():
            if isinstance(item, Request):
                self._core.add(item)
            else:
                self._core.abort(*item)
