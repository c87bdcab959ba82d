"""Where the time of decode steps goes: exclusive time of each stop on the way of a step, by number of requests.

python -m benchmarks.step_profile [MODEL] [--requests ...]: processor time of the calling thread (on a busy machine the
wall time says little), and wall time beside it; joining the program includes waiting for the other workers.
"""

from __future__ import annotations

import argparse
import functools
import random
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from octavo import LLM, SamplingParams
from octavo.backends.cpu.backend import CpuBackend
from octavo.backends.cpu.program import CpuProgram
from octavo.base.types import Request
from octavo.engine.child import Child
from octavo.engine.core import EngineCore
from octavo.engine.frontend import Frontend
from octavo.engine.scheduler import Scheduler
from octavo.engine.wire import Link
from octavo.runner.runner import Runner

STOPS: tuple[tuple[str, type, str], ...] = (
    ("schedule", Scheduler, "schedule"),
    ("runner: slots and tables", Runner, "_apply_changes"),
    ("runner: inputs", Runner, "_inputs"),
    ("program: prepare", CpuProgram, "prepare"),
    ("program: submit", CpuProgram, "submit"),
    ("program: join", CpuProgram, "join"),
    ("runner: around sampling", Runner, "_sample"),
    ("sample", CpuBackend, "sample"),
    ("commit", Scheduler, "commit"),
    ("runner, executor and core", EngineCore, "turn"),
    ("messages", Child, "turn"),
    ("frontend: events to deltas", Frontend, "_dispatch"),
    ("LLM and the rest", LLM, "generate"),
)
COMPUTING = ("program: join", "sample")
OUTERMOST = ("messages", "LLM and the rest")


class Clock:
    """Exclusive seconds by name: a stop's time runs while no inner stop's does."""

    def __init__(self) -> None:
        self.cpu_s: dict[str, float] = {}
        self.wall_s: dict[str, float] = {}
        self._open: list[str] = []
        self._at = (0.0, 0.0)

    def reset(self) -> None:
        self.cpu_s.clear()
        self.wall_s.clear()

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*arguments: Any, **options: Any) -> Any:
            self._charge()
            self._open.append(name)
            try:
                return function(*arguments, **options)
            finally:
                self._charge()
                self._open.pop()

        return call

    def _charge(self) -> None:
        now = (time.thread_time(), time.perf_counter())
        if self._open:
            name = self._open[-1]
            self.cpu_s[name] = self.cpu_s.get(name, 0.0) + now[0] - self._at[0]
            self.wall_s[name] = self.wall_s.get(name, 0.0) + now[1] - self._at[1]
        self._at = now


def profile(llm: LLM, clock: Clock, requests: int, steps: int) -> str:
    """Microseconds a step of every stop, over `steps` decode steps of `requests` rows (and one short prefill): first as
    the engine's own process runs them, then as `LLM` does, with text left out."""
    draw = random.Random(requests)
    prompts = [[draw.randrange(llm.info.vocab_size)] for _ in range(requests)]
    sampling = SamplingParams(temperature=0, max_tokens=steps, ignore_eos=True, detokenize=False, seed=1)
    llm.generate(prompts, sampling.clone(max_tokens=4), use_tqdm=False)
    clock.reset()
    run_as_child(llm, [Request(f"{i}/0", tuple(prompt), sampling) for i, prompt in enumerate(prompts)])
    lines = [f"{requests} requests, {steps} steps: microseconds a step (processor time of the caller, wall time)"]
    lines += _table(clock, steps, "engine process: all but program and sampler")
    clock.reset()
    llm.generate(prompts, sampling, use_tqdm=False)
    lines += _table(clock, steps, "LLM: all but program and sampler")
    return "\n".join(lines)


def run_as_child(llm: LLM, requests: Sequence[Request]) -> None:
    """Runs the requests as the engine's process does; what it sends is thrown away afterwards."""
    mine, its = socket.socketpair()
    with mine, its:
        its.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
        core = llm._client._core
        child = Child(Link(its))
        for request in requests:
            core.add(request)
        while core.has_work:
            child.turn(core)


def _table(clock: Clock, steps: int, title: str) -> list[str]:
    lines = []
    for name in [name for name, _, _ in STOPS if name in clock.cpu_s]:
        cpu, wall = (1e6 * seconds[name] / steps for seconds in (clock.cpu_s, clock.wall_s))
        lines.append(f"  {name:44} {cpu:9.1f} {wall:9.1f}")
    python = sum(s for name, s in clock.cpu_s.items() if name not in COMPUTING)
    return [*lines, f"  {title:44} {1e6 * python / steps:9.1f}"]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step_profile", description=__doc__)
    parser.add_argument("model", nargs="?", help="as for octavo serve (default: the demo model)")
    parser.add_argument("--requests", type=int, nargs="+", default=[1, 8, 32], help="(default: %(default)s)")
    parser.add_argument("--steps", type=int, default=128, help="of each measurement (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="worker threads (default: physical cores)")
    parser.add_argument("--coarse", action="store_true", help="only the sums: a stop costs some microseconds itself")
    options = parser.parse_args(arguments)
    clock = Clock()
    for name, owner, method in STOPS:
        if options.coarse and name not in COMPUTING + OUTERMOST:
            continue
        setattr(owner, method, clock.timed(name, getattr(owner, method)))
    choice = {} if options.model is None else {"model": options.model}
    with LLM(
        **choice,
        threads=options.threads,
        max_num_seqs=max(options.requests),
        max_model_len=options.steps + 16,
        enable_prefix_caching=False,
    ) as llm:
        for requests in options.requests:
            print(profile(llm, clock, requests, options.steps))
    return 0


if __name__ == "__main__":
    sys.exit(main())
