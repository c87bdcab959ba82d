"""The run: rounds over groups over contenders, one process at a time, every sample on disk before the next begins.

What is there already is not measured again, so that a cut run goes on where it was. A sample during which other
processes took part of the machine is measured again, up to a limit; the report leaves the disturbed ones out.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.compare import offline, places, serving, store
from benchmarks.compare.accounting import Meter, num_processors, wait_for_quiet
from benchmarks.compare.plan import WORKS, Contender, Group, Settings

MAX_FOREIGN = 0.10
TRIES = 2


@dataclass(frozen=True)
class Options:
    """How a run is done. `deadline` is a time of `time.monotonic`, or None."""

    samples: Path
    rounds: int
    threads: int
    deadline: float | None
    patience_s: float
    choose: Callable[[str, Contender, str], Settings]  # kind of group, contender, kind of work


def run(groups: list[Group], options: Options) -> bool:
    """All samples that are missing; False when the deadline cut it."""
    known = store.load(options.samples)
    for number in range(options.rounds):
        for group in groups:
            if number >= group.rounds:
                continue
            contenders = [c for c in group.contenders if c.rounds is None or number < c.rounds]
            turn = number % len(contenders)
            missing = [c for c in contenders[turn:] + contenders[:turn] if wanting(known, number, group, c.label)]
            if not missing:
                continue
            limits: list[dict[str, float]] = []  # one more than contenders measured
            for label, take in _samples(number, group, missing, options):
                if options.deadline is not None and time.monotonic() > options.deadline:
                    return False
                known.append(_taken(number, group, label, take, limits, options))
    return True


def wanting(known: list[store.Sample], number: int, group: Group, label: str) -> bool:
    """Whether a sample is missing: none that is whole and undisturbed, and tries are left."""
    tries = [s for s in known if (s["round"], s["group"], s["contender"]) == (number, group.name, label)]
    good = [s for s in tries if "error" not in s and s["foreign_share"] <= MAX_FOREIGN]
    return not good and len(tries) < TRIES


Take = Callable[[], tuple[dict[str, Any], list[str]]]


def _samples(
    number: int, group: Group, missing: list[Contender], options: Options
) -> Iterator[tuple[str, Take]]:  # fmt: skip
    for contender in missing:

        def take(contender: Contender = contender) -> tuple[dict[str, Any], list[str]]:
            works = contender.works or group.works
            if group.served:
                return serving.run(contender, works, options.threads, seed=number + 1)
            return _offline(group, contender, works, options)

        yield contender.label, take


def _offline(
    group: Group, contender: Contender, works: tuple[str, ...], options: Options
) -> tuple[dict[str, Any], list[str]]:
    """One process for each setting that is the best for some of the workloads."""
    values: dict[str, Any] = {}
    commands: list[str] = []
    by_settings: dict[Settings, list[str]] = {}
    for work in works:
        best = options.choose(group.name.split(" ")[0], contender, WORKS[work].kind)
        by_settings.setdefault(best, []).append(work)
    for settings, chosen in by_settings.items():
        used = Contender(contender.engine, contender.shape, contender.format, (*contender.settings, *settings))
        found, said = offline.run(used, tuple(chosen), group.repeat, options.threads)
        values |= found
        commands += said
    return values, commands


def _machine(threads: int) -> dict[str, float]:
    """What the machine can do at most at this minute."""
    command = [str(places.limits_program()), str(threads)]
    limits: dict[str, float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return limits


def _taken(
    number: int, group: Group, label: str, take: Take, limits: list[dict[str, float]], options: Options
) -> store.Sample:
    """One sample, with the limits of the machine before and after it."""
    sample: store.Sample = {"round": number, "group": group.name, "contender": label}
    wait_for_quiet(MAX_FOREIGN, options.patience_s)
    if not limits:
        limits.append(_machine(options.threads))
    sample["time"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    meter = Meter()
    try:
        with _burning(group.burners):
            values, commands = take()
        sample |= {"values": values, "commands": [_public(command) for command in commands]}
    except (RuntimeError, OSError, subprocess.SubprocessError, ValueError, KeyError, StopIteration) as error:
        sample["error"] = _public(f"{type(error).__name__}: {error}")
    sample |= {"wall_s": round(meter.wall_s, 3), "foreign_share": round(meter.foreign_share(), 4)}
    limits.append(_machine(options.threads))
    sample["limits"] = limits[-2:]
    store.append(options.samples, sample)
    print(f"round {number + 1}, {group.name}, {label}: {_brief(sample)}", file=sys.stderr, flush=True)
    return sample


def _public(text: str) -> str:
    """Commands and messages without this machine's folders."""
    for folder, name in ((places.ROOT, "octavo"), (places.peers(), "peers"), (Path.home(), "~")):
        text = text.replace(str(folder), name)
    return text


def _brief(sample: store.Sample) -> str:
    if "error" in sample:
        return str(sample["error"])[:200]
    parts = []
    for work, values in sample["values"].items():
        rates = sorted(value[key] for value in values for key in ("tok_s", "seconds") if key in value)
        if rates:
            parts.append(f"{work} {rates[len(rates) // 2]:.1f}")
    bandwidth = "/".join(f"{limit['bandwidth_gbs']:.0f}" for limit in sample["limits"])
    return f"{', '.join(parts)} ({sample['wall_s']:.0f} s, others {sample['foreign_share']:.2f}, {bandwidth} GB/s)"


@contextlib.contextmanager
def _burning(processors: tuple[int, ...]) -> Iterator[None]:
    """Another process that keeps each of these processors busy (negative: from the last)."""
    burners = []
    for processor in processors:
        which = range(num_processors())[processor]
        code = f"import os\nos.sched_setaffinity(0, {{{which}}})\nwhile True: pass"
        burners.append(subprocess.Popen([sys.executable, "-S", "-c", code], env={**os.environ}))
    try:
        if burners:
            time.sleep(0.3)
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
