"""`octavo bench startup`: the import, the start of a server to ready, and its first token, in fresh processes.

Medians over rounds with warm file caches. Time counts from the start of the command; a client asks /health until it
answers, then for a streamed completion. Knows the command and its HTTP, nothing inside.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass

from octavo.base.errors import ConfigError
from octavo.bench.workload import check_positive

PROMPT = "The capital of France is"
_RETRY_S = 0.005


@dataclass(frozen=True)
class Start:
    """One start of a server: seconds from the command to its answer to /health, and to the first token."""

    ready_s: float
    first_token_s: float


@dataclass(frozen=True)
class Startup:
    """Medians over the rounds, and every start. `import_s` leaves the interpreter's own start out."""

    model: str
    rounds: int
    import_s: float
    ready_s: float
    first_token_s: float
    starts: list[Start]


def measure(model: str | None, serve_options: Sequence[str], *, rounds: int, timeout_s: float) -> Startup:
    """Starts and ends a server `rounds` times.

    Raises:
        ConfigError: the server ends, or has not answered after `timeout_s`; with what it said.
    """
    check_positive(num_iters=rounds)
    imports, starts = [], []
    for _ in range(rounds):
        imports.append(import_s())
        with ServerProcess(model, serve_options) as server:
            starts.append(server.wait(timeout_s))
    return Startup(
        model or "octavo-demo",
        rounds,
        statistics.median(imports),
        statistics.median(start.ready_s for start in starts),
        statistics.median(start.first_token_s for start in starts),
        starts,
    )


def import_s() -> float:
    """Seconds of `import octavo` in a fresh interpreter."""
    code = "import time; t = time.perf_counter(); import octavo; print(time.perf_counter() - t)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


class ServerProcess:
    """`octavo serve` on a free port of this machine; ends with the block."""

    def __init__(self, model: str | None, options: Sequence[str] = ()) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port: int = listener.getsockname()[1]
        own = ["--host", "127.0.0.1", "--port", str(self.port), "--no-access-log"]
        command = [sys.executable, "-m", "octavo", "serve", *([model] if model else []), *options, *own]
        self._said = tempfile.TemporaryFile()  # noqa: SIM115
        self._begin = time.perf_counter()
        self._process = subprocess.Popen(command, stdout=self._said, stderr=self._said)

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self, timeout_s: float) -> Start:
        """Until the first token. Raises ConfigError as `measure` says."""
        deadline = self._begin + timeout_s
        while not self._healthy(deadline):
            if self._process.poll() is not None:
                raise ConfigError(f"The server ended with code {self._process.returncode}: {self._last_words()}")
            if time.perf_counter() > deadline:
                raise ConfigError(f"The server was not ready after {timeout_s:.0f} s: {self._last_words()}")
            time.sleep(_RETRY_S)
        ready = time.perf_counter() - self._begin
        self._first_token(deadline)
        return Start(ready, time.perf_counter() - self._begin)

    def _healthy(self, deadline: float) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_left(deadline))
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _first_token(self, deadline: float) -> None:
        try:
            first_token(self.port, _left(deadline))
        except ConfigError as error:
            raise ConfigError(f"{error} {self._last_words()}") from error

    def _last_words(self) -> str:
        self._said.seek(0)
        words = self._said.read().decode(errors="replace").strip()
        return words[-1000:] or "it said nothing."

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._said.close()


def first_token(port: int, timeout_s: float) -> None:
    """Returns when the server on that port streams the first token of a completion. Raises ConfigError without one."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    body = json.dumps({"prompt": PROMPT, "stream": True, "temperature": 0, "max_tokens": 16})
    try:
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        for line in answer:
            said = json.loads(line[6:]) if line.startswith(b"data: {") else {}
            if "error" in said:
                raise ConfigError(f"The server answered with an error: {said['error']}.")
            if said.get("choices"):
                return
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise ConfigError(f"The server broke off: {error!r}.") from error
    finally:
        connection.close()
    raise ConfigError(f"The server answered {answer.status} without a token.")


def _left(deadline: float) -> float:
    return max(0.1, deadline - time.perf_counter())


def report(result: Startup) -> str:
    """The medians in milliseconds."""
    return (
        f"{result.model}, median of {result.rounds}, {os.cpu_count()} cores\n"
        f"import octavo {1e3 * result.import_s:8.0f} ms\n"
        f"ready         {1e3 * result.ready_s:8.0f} ms after the start of the command\n"
        f"first token   {1e3 * result.first_token_s:8.0f} ms"
    )
