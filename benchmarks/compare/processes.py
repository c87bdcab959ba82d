"""Ends whole trees of processes, so that nothing of one sample runs, or is missing in the accounts, during the next.

Some engines leave processes behind when their first one ends. They are in the session that was made for it, and become
children of this process, which ends and waits for them: their time then counts as this process's children's.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


def adopt_orphans() -> None:
    """From now on, descendants whose parent has ended become children of this process."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def output_of(command: list[str], environment: Mapping[str, str], timeout_s: float) -> str:
    """Standard output of a command. Raises RuntimeError with the end of what it said when it fails."""
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(command, stdout=said, stderr=errors, env=environment, start_new_session=True)
        try:
            code = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            code = -signal.SIGKILL
        finally:
            end(process)
        said.seek(0)
        errors.seek(0)
        output = said.read()
        if code != 0:
            raise RuntimeError(f"{command[0]} ended with code {code}: {(output + errors.read())[-2000:]}")
    return output


def end(process: subprocess.Popen[bytes]) -> None:
    """Kills what is left of the session of a process, and waits for all of it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for pid in _session(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if process.poll() is None:
        process.wait()
    deadline = time.monotonic() + 5
    while _session(process.pid) and time.monotonic() < deadline:
        _reap()
        time.sleep(0.01)
    _reap()


def _session(leader: int) -> list[int]:
    """Processes of a session, ended ones that nobody has waited for included."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rsplit(")", 1)[1].split()
            if int(fields[3]) == leader:
                found.append(int(stat.parent.name))
    return found


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
