"""The engine's own process: `python -P -m octavo.engine_main SOCKET`, started by servers with `COMMAND`.

Imports nothing itself, so that a server can name the command before it has imported anything.
"""

from __future__ import annotations

import gc
import sys

# -P: a struct.py in the user's working directory is not ours to import
COMMAND = (sys.executable, "-P", "-m", "octavo.engine_main")


def main(descriptor: int) -> int:
    """Loads and serves what comes over the inherited socket; returns the exit status."""
    # Modules and tables are made to stay: walking them for garbage takes a quarter of the time of importing them. The
    # child's loop collects when it is idle.
    gc.disable()
    import socket

    from octavo.engine.child import child_main
    from octavo.wiring import build_core

    return child_main(socket.socket(fileno=descriptor), build_core)


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1])))
