"""The driver's side of an engine under test: a worker process, and how much other work the machine did meanwhile."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORKERS = Path(__file__).parent / "workers"
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Sample:
    """One measurement: seconds of each part, and the share of the machine's processors that others used."""

    prefill_s: float
    decode_s: float
    total_s: float
    foreign_share: float


class Engine:
    """A worker process. Raises RuntimeError when it fails; what it said is on standard error."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, op: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"op": op, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker of {self.name} ended with code {self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{self.name}: {answer['error']}")
        return answer["ok"]

    def measure(self, **arguments: Any) -> Sample:
        """One run, with the work of other processes while it lasted."""
        busy, own, begin = _busy_s(), _used_s(self._process.pid), time.monotonic()
        times = self.ask("run", **arguments)
        seconds = time.monotonic() - begin
        foreign = (_busy_s() - busy) - (_used_s(self._process.pid) - own)
        share = max(0.0, foreign) / (seconds * (os.cpu_count() or 1))
        return Sample(times["prefill_s"], times["decode_s"], times["total_s"], share)

    @property
    def resident_bytes(self) -> int:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024

    def close(self) -> None:
        """Ends the worker by closing its input."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(timeout=60)


def wait_for_quiet(share: float, patience_s: float) -> None:
    """Returns when the processors have been used no more than `share` for a second, or patience has run out."""
    deadline = time.monotonic() + patience_s
    while True:
        busy, begin = _busy_s(), time.monotonic()
        time.sleep(1)
        used = (_busy_s() - busy) / ((time.monotonic() - begin) * (os.cpu_count() or 1))
        if used <= share or time.monotonic() >= deadline:
            return


def _busy_s() -> float:
    """Processor seconds that were not idle since the machine started, time taken by a hypervisor included."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) * _TICK_S


def _used_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S
