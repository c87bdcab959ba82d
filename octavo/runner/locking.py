"""Whether this process may lock so much memory, asked before anything is loaded.

Knows the system's limit and the privilege that lifts it; locking itself is the backend's.
"""

from __future__ import annotations

import resource
from pathlib import Path

from octavo.base.errors import ConfigError

_CAP_IPC_LOCK = 14


def check_lockable(nbytes: int) -> None:
    """Raises ConfigError, with both numbers and the ways out, where RLIMIT_MEMLOCK is too low for `nbytes`."""
    limit, most = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if limit in (resource.RLIM_INFINITY, -1) or nbytes <= limit or _is_privileged():
        return
    own = " (this process may raise it itself: `ulimit -l unlimited`)" if most == resource.RLIM_INFINITY else ""
    raise ConfigError(
        f"--mlock has {nbytes / 2**20:.1f} MiB of weights and KV pages to lock, but RLIMIT_MEMLOCK is "
        f"{limit / 2**20:.1f} MiB{own}. Raise it (`ulimit -l`, LimitMEMLOCK=infinity for systemd, --ulimit memlock=-1 "
        "for containers, or the capability IPC_LOCK), take fewer KV pages with --kv-memory, or leave out --mlock."
    )


def _is_privileged(status: Path = Path("/proc/self/status")) -> bool:
    """Whether the limit does not hold for this process."""
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return False
    effective = next((int(line.split()[1], 16) for line in lines if line.startswith("CapEff:")), 0)
    return bool(effective >> _CAP_IPC_LOCK & 1)
