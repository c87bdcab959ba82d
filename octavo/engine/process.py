"""ChildClient: the engine in a child process, seen from the frontend.

Starts the process with `subprocess` and a socket that it inherits, so that neither fork nor an import of the user's
script is involved; notices its end in any way it may come. Knows messages and no streams.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import Sequence

from octavo.base import errors
from octavo.base.config import EngineArgs
from octavo.base.errors import EngineDeadError, OctavoError
from octavo.base.types import EngineStats, Request, StepEvents
from octavo.engine.client import leave_loop
from octavo.engine.messages import (
    Abort,
    Add,
    Ask,
    Beat,
    Events,
    EventsIn,
    Failed,
    Ready,
    Start,
    ToEngine,
    decode_from_engine,
    encode,
)
from octavo.engine.spawn import Spawned, reap, spawn
from octavo.engine.wire import Link

_STATUS_WAIT_S = 1.0  # between a process's closing its socket and its end; an event loop may be waiting meanwhile


class ChildClient:
    """An engine process. Starting it returns at once: it loads while the caller does other things.

    Args:
        command: what to run, see `spawn`, or the process that was started so. It calls
            `octavo.engine.child.child_main` with its socket.
        args: what it is to load.
    """

    def __init__(self, command: Sequence[str] | Spawned, args: EngineArgs) -> None:
        spawned = command if isinstance(command, Spawned) else spawn(command)
        self._process = spawned.process
        self._link = Link(spawned.socket)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._ready: Ready | None = None
        self._failed: Failed | None = None
        self._death: str | None = None
        self._steps: list[StepEvents] = []
        self._events_in = EventsIn()
        self._asked: dict[int, asyncio.Future[EngineStats]] = {}
        self._num_asked = 0
        self._send(Start(args))

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        if self._death is None and self._process.poll() is not None:
            self._read()  # its last words, then its end
        return self._death is None

    def wait_ready(self, timeout_s: float | None = None) -> Ready:
        """Blocks until the model is loaded. Call before `start`.

        Raises:
            OctavoError: what the loading raised in the process, with its class and message.
            EngineDeadError: the process ended without a word.
            TimeoutError: not ready in time.
        """
        while self._ready is None and self._death is None:
            if not self._link.wait(timeout_s):
                raise TimeoutError(f"The engine process is not ready after {timeout_s:g} s.")
            self._link.flush()
            self._read()
        if self._ready is None:
            self.shut()
            raise self._error()
        return self._ready

    # ------------------------------------------------------------ EngineClient

    def add(self, request: Request) -> None:
        if not self.alive:
            raise self._error()
        self._send(Add.of(request))

    def abort(self, request_id: str, index: int | None = None) -> None:
        if self._death is None:
            self._send(Abort(request_id, index))

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is loop or self._death is not None:
            return
        leave_loop(self._loop, self._wake)
        self._unbind()
        self._loop = loop
        self._wake = asyncio.Event()
        loop.add_reader(self._link.fileno(), self._read)
        if self._link.has_unsent:
            loop.add_writer(self._link.fileno(), self._write)
        self._read()

    async def events(self) -> list[StepEvents]:
        await self.start()
        while not self._steps:
            if self._death is not None:
                raise self._error()
            self._wake.clear()
            await self._wake.wait()
            await self.start()
        steps, self._steps = self._steps, []
        return steps

    async def stats(self) -> EngineStats:
        """The engine's numbers, between two of its steps. That they come shows that its loop is turning.

        Raises:
            EngineDeadError: the engine has ended.
        """
        await self.start()
        if self._death is not None:
            raise self._error()
        number, self._num_asked = self._num_asked, self._num_asked + 1
        answer: asyncio.Future[EngineStats] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        self._send(Ask(number))
        try:
            return await answer
        finally:
            self._asked.pop(number, None)

    async def close(self) -> None:
        """Closes the socket, at which the process ends, and waits for that."""
        self._end("The engine was closed.")
        await asyncio.to_thread(reap, self._process)

    def shut(self) -> None:
        """`close` for a caller without an event loop."""
        self._end("The engine was closed.")
        reap(self._process)

    # ------------------------------------------------------------ the socket

    def _send(self, message: ToEngine) -> None:
        self._link.send(encode(message))
        if self._link.has_unsent and self._loop is not None:
            self._loop.add_writer(self._link.fileno(), self._write)

    def _write(self) -> None:
        self._link.flush()
        if not self._link.has_unsent and self._loop is not None:
            self._loop.remove_writer(self._link.fileno())

    def _read(self) -> None:
        if self._death is not None:
            return
        try:
            for frame in self._link.receive():
                self._take(frame)
        except Exception as e:
            self._process.kill()
            self._end(f"The engine process sent something wrong: {e}")
        if self._link.closed:
            self._end(self._last_words())
        self._wake.set()

    def _take(self, frame: bytes) -> None:
        match decode_from_engine(frame):
            case Events() as events:
                self._steps.append(self._events_in.step(events))
            case Beat(number, stats):
                answer = self._asked.get(number)
                if answer is not None and not answer.done():
                    answer.set_result(stats)
            case Ready() as ready:
                self._ready = ready
            case Failed() as failed:
                self._failed = failed

    # ------------------------------------------------------------ the end

    def _last_words(self) -> str:
        if self._failed is not None:
            return self._failed.message
        try:
            status = self._process.wait(_STATUS_WAIT_S)
        except subprocess.TimeoutExpired:
            return "The engine process has closed its socket."
        if status == -signal.SIGKILL:
            return "The engine process was killed (SIGKILL), probably because memory ran out. Restart the server."
        how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
        return f"The engine process ended {how}. Its error output says more. Restart the server."

    def _error(self) -> OctavoError:
        """The death as an exception: of the class that the process named, if it failed on purpose."""
        message = self._death or "The engine has ended."
        kind = getattr(errors, self._failed.kind, None) if self._failed is not None and self._ready is None else None
        if isinstance(kind, type) and issubclass(kind, OctavoError):
            error = kind.__new__(kind)  # the message is complete: no constructor is to make another of it
            Exception.__init__(error, message)
            return error
        return EngineDeadError(message)

    def _end(self, death: str) -> None:
        """From here on nothing is sent, and every question is answered by an error. Only the first call counts."""
        if self._death is not None:
            return
        self._death = death
        self._unbind()
        self._link.close()
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(self._error())
        self._wake.set()

    def _unbind(self) -> None:
        if self._loop is not None and not self._loop.is_closed() and self._link.fileno() >= 0:
            self._loop.remove_reader(self._link.fileno())
            self._loop.remove_writer(self._link.fileno())
        self._loop = None
