"""What `octavo plan` says beside what a server's processes take, once every KV page and row of the plan has been used.

    python -m benchmarks.memory MODEL... [--kv-memory BYTES] [--users 16] [--context 512] [--out results/memory.json]

Starts `octavo serve` with the options that the plan was asked for, fills all KV pages with different prompts, all users
at once, with penalties (a copy of the logits for each row) and one with log-probabilities of its prompt (logits of many
rows), and reads each process's /proc/PID/smaps_rollup.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import platform
import random
import statistics
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from benchmarks.startup import tree
from octavo.bench.startup import ServerProcess

MIB = 1 << 20
TIMEOUT_S = 600.0
VOCABULARY = 4000  # prompts draw from so many entries, which every model has
FIELDS = ("Rss", "Pss", "Anonymous", "AnonHugePages", "Private_Clean", "Private_Dirty")


def planned(model: str, options: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "octavo", "plan", model, "--json", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    plan: dict[str, Any] = json.loads(done.stdout)
    return plan


def memory_of(pid: int) -> dict[str, int]:
    """Bytes by kind, of one process."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    found = {name: int(rest.split()[0]) * 1024 for name, rest in (line.split(":") for line in lines)}
    return {name: found[name] for name in FIELDS} | {"Private": found["Private_Clean"] + found["Private_Dirty"]}


def peak_of(pid: int) -> int:
    """The most that was resident at once, file pages included."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) * 1024


def complete(port: int, prompt: list[int], max_tokens: int, **more: int) -> None:
    body = {"prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "repetition_penalty": 1.1, "ignore_eos": True}
    body |= more
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    with contextlib.closing(connection):
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{answer.status}: {text[:300]!r}")


def fill(port: int, plan: dict[str, Any], users: int, context: int) -> None:
    """Uses every page: as many different sequences as take all of them and a half more, `users` at once."""
    rng = random.Random(0)
    sequences = max(users, -(-plan["num_pages"] * plan["page_size"] * 3 // (2 * context)))
    prompts = [[rng.randrange(10, VOCABULARY) for _ in range(context - 8)] for _ in range(sequences)]
    failures: list[BaseException] = []

    def work() -> None:
        try:
            while prompts:
                prompt = prompts.pop()
                first = len(prompts) == sequences - 1
                complete(port, prompt, 8, **({"prompt_logprobs": 0} if first else {}))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def measure(model: str, kv_memory: str, users: int, context: int) -> dict[str, Any]:
    options = ["--kv-memory", kv_memory, "--max-num-seqs", str(users), "--max-model-len", str(context)]
    plan = planned(model, options)
    with ServerProcess(model, options) as server:
        server.wait(TIMEOUT_S)
        pids = tree(server.pid)
        peaks = [peak_of(pid) for pid in pids]
        ready = [memory_of(pid) for pid in pids]
        fill(server.port, plan, users, context)
        full = [memory_of(pid) for pid in pids]
    names = ["server", "engine"]
    private = sum(process["Private"] for process in full)
    return {
        "model": Path(model).name,
        "options": options,
        "plan": {name: plan[f"{name}_bytes"] for name in ("weights", "kv", "scratch", "process", "total")},
        "ready": dict(zip(names, ready, strict=True)),
        "peak_resident_while_loading": dict(zip(names, peaks, strict=True)),
        "full": dict(zip(names, full, strict=True)),
        "private_of_all": private,
        "measured_to_plan": private / plan["total_bytes"],
        "beside_weights_and_kv": private - plan["weights_bytes"] - plan["kv_bytes"],
    }


def report(result: dict[str, Any]) -> str:
    def size(count: float) -> str:
        return f"{count / MIB:9.1f} MiB"

    plan, full = result["plan"], result["full"]
    lines = [result["model"], "  planned " + ", ".join(f"{name} {size(count).strip()}" for name, count in plan.items())]
    for name, process in full.items():
        lines.append(
            f"  {name:7} private {size(process['Private'])}  (anonymous {size(process['Anonymous'])}, huge pages "
            f"{size(process['AnonHugePages'])})  peak while loading {size(result['peak_resident_while_loading'][name])}"
        )
    lines.append(f"  all     private {size(result['private_of_all'])}  = {result['measured_to_plan']:.3f} of the plan")
    lines.append(f"  beside weights and KV {size(result['beside_weights_and_kv'])}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--kv-memory", default="256MiB")
    parser.add_argument("--users", type=int, default=16)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results = [measure(model, options.kv_memory, options.users, options.context) for model in options.models]
    print("\n".join(map(report, results)))
    print("mean of measured / planned", round(statistics.mean(r["measured_to_plan"] for r in results), 3))
    if options.out:
        machine = {"machine": platform.machine(), "system": platform.release(), "python": platform.python_version()}
        options.out.write_text(json.dumps({**machine, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
