"""Processor time and memory of processes, read from /proc: who used the machine while a sample was taken.

Knows nothing of engines. Linux only.
"""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Meter:
    """Wall seconds since it was made, and the share of all processors that others than this process and its ended
    children used; `own_share` is this process alone (the load client of a server under test)."""

    def __init__(self) -> None:
        self._busy, self._wall = busy_s(), time.monotonic()
        self._self, self._children = _used(resource.RUSAGE_SELF), _used(resource.RUSAGE_CHILDREN)

    @property
    def wall_s(self) -> float:
        return time.monotonic() - self._wall

    @property
    def own_share(self) -> float:
        return (_used(resource.RUSAGE_SELF) - self._self) / (self.wall_s * num_processors())

    def foreign_share(self) -> float:
        """Only when all children have been waited for; their own children count where they waited for them."""
        own = _used(resource.RUSAGE_SELF) - self._self + _used(resource.RUSAGE_CHILDREN) - self._children
        return max(0.0, busy_s() - self._busy - own) / (self.wall_s * num_processors())


def num_processors() -> int:
    return os.cpu_count() or 1


def busy_s() -> float:
    """Processor seconds that were not idle since the machine started, time taken by a hypervisor included."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) * _TICK_S


def wait_for_quiet(share: float, patience_s: float) -> None:
    """Returns when the processors have been used no more than `share` for half a second, or patience has run out."""
    deadline = time.monotonic() + patience_s
    while True:
        busy, begin = busy_s(), time.monotonic()
        time.sleep(0.5)
        used = (busy_s() - busy) / ((time.monotonic() - begin) * num_processors())
        if used <= share or time.monotonic() >= deadline:
            return


def tree(pid: int) -> list[int]:
    """A process and its descendants."""
    try:
        text = "".join(p.read_text() for p in Path(f"/proc/{pid}/task").glob("*/children"))
    except OSError:
        return []
    return [pid, *(inner for child in text.split() for inner in tree(int(child)))]


def private_bytes(pids: list[int]) -> int:
    """Memory that would be free if these processes ended: private pages, shared anonymous ones once."""
    total = 0
    for pid in pids:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        sizes = {line.split(":")[0]: int(line.split()[1]) for line in rollup if line.endswith("kB")}
        total += sizes["Private_Clean"] + sizes["Private_Dirty"]
        total += sizes.get("Pss_Shmem", 0)
    return total * 1024


def _used(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime
