"""Start-up and idle cost: `import octavo`, `octavo serve` to the first token, CPU time of an idle server, memory.

    python benchmarks/startup.py [--model MODEL] [--rounds 5] [--idle 20] [--out benchmarks/results/startup.json]

Medians over rounds; each round is a fresh process with warm file caches. The first token is counted from the start of
the command to the first content of a streamed chat answer, asked for by a client that retries every 5 ms.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

ASK = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "stream": True, "temperature": 0}


def import_seconds() -> float:
    """Time of `import octavo` in a fresh interpreter, that interpreter's own start left out."""
    code = "import time; t = time.perf_counter(); import octavo; print(time.perf_counter() - t)"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def start(model: str | None, port: int) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "octavo",
        "serve",
        *([model] if model else []),
        "--port",
        str(port),
        "--no-access-log",
    ]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def first_token_seconds(model: str | None) -> tuple[float, subprocess.Popen[bytes]]:
    """Seconds to the first content, and the server, which still runs."""
    port = free_port()
    begin = time.perf_counter()
    server = start(model, port)
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(ASK), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            for line in answer:
                if line.startswith(b"data: {") and json.loads(line[6:])["choices"][0]["delta"].get("content"):
                    return time.perf_counter() - begin, server
            raise RuntimeError(f"the server answered {answer.status} without content")
        except ConnectionRefusedError:
            if server.poll() is not None:
                raise RuntimeError("the server ended") from None
            time.sleep(0.005)
        finally:
            connection.close()


def tree(pid: int) -> list[int]:
    """A process and its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(p for child in children for p in tree(int(child)))]


def cpu_seconds(pids: list[int]) -> float:
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def resident_bytes(pids: list[int]) -> int:
    total = 0
    for pid in pids:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) * 1024
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--idle", type=float, default=20.0, help="seconds over which an idle server is watched")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    first_tokens = []
    for round_number in range(options.rounds):
        seconds, server = first_token_seconds(options.model)
        first_tokens.append(seconds)
        if round_number == options.rounds - 1:
            pids = tree(server.pid)
            time.sleep(1)
            before = cpu_seconds(pids)
            time.sleep(options.idle)
            idle_share = (cpu_seconds(pids) - before) / options.idle
            memory = resident_bytes(pids)
        server.terminate()
        server.wait(30)
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "model": options.model or "octavo-demo",
        "rounds": options.rounds,
        "import_octavo_s": statistics.median(import_seconds() for _ in range(options.rounds)),
        "serve_to_first_token_s": statistics.median(first_tokens),
        "serve_to_first_token_all_s": [round(s, 3) for s in first_tokens],
        "idle_cpu_share_of_one_core": idle_share,
        "resident_mib": memory / 2**20,
    }
    text = json.dumps(result, indent=2)
    print(text)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        partial = options.out.with_suffix(".tmp")
        partial.write_text(text + "\n")
        partial.replace(options.out)


if __name__ == "__main__":
    main()
