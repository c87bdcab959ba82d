"""Starting an engine process, before anything else is imported: it imports while the server's process does.

The process inherits one end of a socket pair, whose number is appended to its command. Knows no messages.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

_STDERR = 2
_END_GRACE_S = 5.0


@dataclass(frozen=True, eq=False)
class Spawned:
    """A process that waits for its first message, and our end of the socket."""

    process: subprocess.Popen[bytes]
    socket: socket.socket

    def abandon(self) -> None:
        """Closes the socket, at which the process ends, and waits for that: for callers that find nothing to load."""
        self.socket.close()
        reap(self.process)


def spawn(command: Sequence[str]) -> Spawned:
    """Starts the process and returns at once.

    Neither fork nor an import of the user's script is involved; the process has a session of its own, because a Ctrl-C
    in the terminal is ours to handle.
    """
    mine, its = socket.socketpair()
    with its:
        process = subprocess.Popen(
            [*command, str(its.fileno())],
            pass_fds=[its.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=_STDERR,
            start_new_session=True,
        )
    return Spawned(process, mine)


def reap(process: subprocess.Popen[bytes]) -> None:
    """Waits for a process whose socket is closed to end, then insists."""
    for insist in (None, process.terminate, process.kill):
        if insist is not None:
            insist()
        try:
            process.wait(_END_GRACE_S)
            return
        except subprocess.TimeoutExpired:
            continue
