"""Runs an app on a listening socket with uvicorn. SIGTERM and SIGINT drain: no new connections, answers finish."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

import uvicorn

from octavo.server.settings import ServerSettings

log = logging.getLogger("octavo.server")

_CLOSING_S = 5  # for streams to say that they were cut off, before connections are closed under them


def serve(app: Any, listener: socket.socket, settings: ServerSettings, cut_off: Callable[[], Awaitable[None]]) -> None:
    """Serves until a signal, then lets running answers finish for `drain_timeout_s` and calls `cut_off` for the rest.

    A second Ctrl-C ends at once. SIGTERM returns from here; SIGINT ends in a KeyboardInterrupt, as everywhere.
    """
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=settings.access_log,
        server_header=False,
        timeout_graceful_shutdown=max(1, int(settings.drain_timeout_s)) + _CLOSING_S,
        timeout_keep_alive=30,
    )
    server = _DrainingServer(config, settings.drain_timeout_s, cut_off)

    def stop(signum: int, frame: FrameType | None) -> None:
        """Sees a signal that comes before uvicorn listens, and the one that uvicorn raises again at its end."""
        server.should_exit = True

    signal.signal(signal.SIGTERM, stop)
    server.run(sockets=[listener])


class _DrainingServer(uvicorn.Server):
    """uvicorn, except that answers which outlast the drain end in an error event and not in a broken connection."""

    def __init__(self, config: uvicorn.Config, drain_timeout_s: float, cut_off: Callable[[], Awaitable[None]]) -> None:
        super().__init__(config)
        self._drain_timeout_s = drain_timeout_s
        self._cut_off = cut_off

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        running = len(self.server_state.tasks)
        log.info("Ending: no new connections; %d running answers have %g s", running, self._drain_timeout_s)
        timer = asyncio.create_task(self._after_drain())
        try:
            await super().shutdown(sockets)
        finally:
            timer.cancel()

    async def _after_drain(self) -> None:
        await asyncio.sleep(self._drain_timeout_s)
        log.warning("The drain's time is over: ending %d answers", len(self.server_state.tasks))
        await self._cut_off()
