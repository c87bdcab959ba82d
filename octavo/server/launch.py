"""Runs an app on a listening socket with uvicorn. SIGTERM and SIGINT drain: no new connections, answers finish."""

from __future__ import annotations

import socket
from typing import Any

import uvicorn

from octavo.server.settings import ServerSettings


def serve(app: Any, listener: socket.socket, settings: ServerSettings) -> None:
    """Serves until a signal, then lets running answers finish for `drain_timeout_s`."""
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=settings.access_log,
        server_header=False,
        timeout_graceful_shutdown=max(1, int(settings.drain_timeout_s)),
        timeout_keep_alive=30,
    )
    uvicorn.Server(config).run(sockets=[listener])
