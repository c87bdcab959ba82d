"""The engine process: its main loop around an EngineCore, between two reads of its socket.

Who starts it supplies `make_core`; this module knows no weights and no kernels. Takes no signal from a terminal and
ends when its socket does, so it can be neither interrupted by halves nor orphaned.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator

from octavo.base.config import EngineArgs
from octavo.base.errors import OctavoError
from octavo.base.types import ModelInfo
from octavo.engine.core import EngineCore
from octavo.engine.messages import (
    Abort,
    Add,
    Ask,
    Beat,
    EventsOut,
    Failed,
    FromEngine,
    Ready,
    Start,
    ToEngine,
    decode_to_engine,
    encode,
)
from octavo.engine.wire import Link

MakeCore = Callable[[EngineArgs], tuple[EngineCore, ModelInfo]]

_BUSY_STEPS_PER_COLLECTION = 1000
_MAX_UNSENT_BYTES = 1 << 24  # for a frontend that is held up; thousands of steps


def child_main(sock: socket.socket, make_core: MakeCore) -> int:
    """Loads what the first message names, serves until the socket closes, and returns the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = Child(Link(sock))
    start = child.receive_start()
    if start is None:
        return 0
    try:
        with _ending_with(sock):
            core, info = make_core(start.args)
    except Exception as e:
        child.fail(e, "The engine failed to load")
        return 1
    # what was loaded stays: it need not be walked by any later collection
    gc.collect()
    gc.freeze()
    gc.disable()
    child.send(Ready(info, core.limits))
    try:
        child.serve(core)
    except Exception as e:
        child.fail(e, "The engine ended after an internal error")
        return 1
    finally:
        core.close()
    return 0


@contextlib.contextmanager
def _ending_with(sock: socket.socket) -> Iterator[None]:
    """Ends this process at once if the socket is closed while the block runs: loading, which never looks at it."""
    done, wake = socket.socketpair()

    def watch() -> None:
        poller = select.poll()
        poller.register(sock, 0)  # only its end
        poller.register(wake, select.POLLIN)
        if sock.fileno() in dict(poller.poll()):
            os._exit(0)

    with wake:
        thread = threading.Thread(target=watch, name="octavo socket watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.close()
            thread.join()


class Child:
    """The loop's side of the border."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._events = EventsOut()

    def send(self, message: FromEngine) -> None:
        """Sends without waiting for a frontend that reads slowly, up to a limit on what lies here."""
        self._link.send(encode(message))
        if self._link.num_unsent > _MAX_UNSENT_BYTES:
            self._drain()

    def _drain(self) -> None:
        while self._link.num_unsent:
            self._link.wait_writable()
            self._link.flush()

    def fail(self, error: Exception, what: str) -> None:
        """Tells the frontend why this process ends; an error without a message of its own is printed in full."""
        if isinstance(error, OctavoError):
            self.send(Failed(type(error).__name__, str(error)))
        else:
            traceback.print_exception(error, file=sys.stderr)
            self.send(Failed("EngineDeadError", f"{what}: {type(error).__name__}: {error}"))
        self._drain()

    def receive_start(self) -> Start | None:
        """The first message, or None if the frontend has gone."""
        while not self._link.closed:
            self._link.wait()
            for frame in self._link.receive():
                message = decode_to_engine(frame)
                assert isinstance(message, Start), "the first message names what to load"
                return message
        return None

    def serve(self, core: EngineCore) -> None:
        """While there is work, looks at the socket as other workers begin a step; otherwise sleeps on it."""
        busy_steps = 0
        while True:
            if not core.has_work:
                self._drain()
                gc.collect(1)
                busy_steps = 0
                self._link.wait()
            self.turn(core)
            if self._link.closed:
                return
            busy_steps += 1
            if busy_steps % _BUSY_STEPS_PER_COLLECTION == 0:
                gc.collect(0)

    def turn(self, core: EngineCore) -> None:
        """Takes what has come, goes on to the next step, and sends what the last one yielded while that is computed."""
        for frame in self._link.receive():
            self._take(core, decode_to_engine(frame))
        if self._link.closed or not core.has_work:
            return
        step = core.turn()
        if len(step):
            self.send(self._events.message(step))
        elif self._link.num_unsent:
            self._link.flush()

    def _take(self, core: EngineCore, message: ToEngine) -> None:
        match message:
            case Add():
                core.add(message.request())
            case Abort():
                core.abort(message.request_id, message.index)
            case Ask():
                self.send(Beat(message.number, core.stats()))
            case Start():
                raise AssertionError("an engine process loads once")
