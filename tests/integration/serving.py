"""A real `octavo serve` of the demo model: started, asked, signalled and ended by tests."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path
from types import TracebackType
from typing import Any

SMALL = ("--kv-memory", "64MiB")
PATIENCE_S = 60.0  # for a machine that is busy with other things


class Served:
    """A server process. Its output is in `log`; leaving the context kills what is left of it."""

    def __init__(self, log: Path, *options: str, module: str = "octavo", model: str = "octavo-demo") -> None:
        command = ["serve", model] if module == "octavo" else ["--model", model]
        self._log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", module, *command, "--port", "0", *SMALL, *options], stdout=out, stderr=out
            )
        wait_for(lambda: "OpenAI API" in self.log or self.process.poll() is not None)
        found = re.search(r"http://(\S+)/v1", self.log)
        assert found is not None, self.log
        self.address = found[1]
        self.url = f"http://{self.address}/v1"

    def __enter__(self) -> Served:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
                 ) -> None:  # fmt: skip
        self.process.kill()
        self.process.wait()

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8")

    @property
    def engine_pid(self) -> int:
        (pid,) = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(pid)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def ended(self) -> int:
        """The exit status, when it has ended."""
        return self.process.wait(PATIENCE_S)

    def ask(self, path: str, body: object = None) -> tuple[int, Any]:
        """Status and decoded body of one request on a connection of its own."""
        with contextlib.closing(self.send(path, body)) as connection:
            answer = connection.getresponse()
            text = answer.read()
        is_json = answer.headers.get_content_type() == "application/json"
        return answer.status, json.loads(text) if is_json else text.decode()

    def events(self, body: object) -> Generator[dict[str, Any], None, None]:
        """The events of a streamed completion as they come; the last line must be [DONE]."""
        data = ""
        with contextlib.closing(self.send("/v1/completions", body)) as connection, connection.getresponse() as answer:
            while line := answer.readline():
                text = line.decode().strip()
                if text:
                    data = text.removeprefix("data: ")
                    if data != "[DONE]":
                        yield json.loads(data)
        assert data == "[DONE]", data

    def send(self, path: str, body: object = None) -> http.client.HTTPConnection:
        """A connection on which a request has been sent."""
        connection = http.client.HTTPConnection(self.address, timeout=PATIENCE_S)
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        try:
            connection.request("GET" if data is None else "POST", path, data)
        except BaseException:
            connection.close()
            raise
        return connection

    def metric(self, name: str) -> float:
        found = re.search(rf"^octavo_{name}{{[^}}]*}} (\S+)$", self.ask("/metrics")[1], re.MULTILINE)
        assert found is not None, name
        return float(found[1])


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Whether a process is there and not merely waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
