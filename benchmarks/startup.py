"""Start-up and idle cost: `import octavo`, `octavo serve` to the first token, CPU time of an idle server, memory.

    python -m benchmarks.startup [--model MODEL] [--rounds 5] [--idle 20] [--out benchmarks/results/startup.json]

Medians over rounds, by the method of `octavo bench startup`; after the last one the server is left idle and watched.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path

from octavo.bench.startup import ServerProcess, Start, import_s

TIMEOUT_S = 300.0


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
    starts: list[Start] = []
    for round_number in range(options.rounds):
        with ServerProcess(options.model) as server:
            starts.append(server.wait(TIMEOUT_S))
            if round_number == options.rounds - 1:
                pids = tree(server.pid)
                time.sleep(1)
                before = cpu_seconds(pids)
                time.sleep(options.idle)
                idle_share = (cpu_seconds(pids) - before) / options.idle
                memory = resident_bytes(pids)
    first_tokens = [start.first_token_s for start in starts]
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "model": options.model or "octavo-demo",
        "rounds": options.rounds,
        "import_octavo_s": statistics.median(import_s() for _ in range(options.rounds)),
        "serve_to_ready_s": statistics.median(start.ready_s for start in starts),
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
