"""llama.cpp's best settings, found before the rounds: flash attention, repacked weights, one KV cache for all.

Each switch is flipped alone against the base (attention on, repacked, a cache for each sequence) and kept where it is
faster. Attention and cache do not see the weights' format: they are tried on the Q8_0 file of a shape; repacking is
tried for each format, for one request and for several. Shapes without trials of their own take those of the nearest.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.compare import runner, store
from benchmarks.compare.plan import LARGE, LARGER, LONG, MIDDLE, SMALL, WORKS, Contender, Group, Settings

Best = dict[str, Settings]
"""Settings to add, by `KIND SHAPE FORMAT prompt|decode`."""

BASE: Settings = ()
_FLIPS: dict[str, Settings] = {"fa": (("fa", "0"),), "repack": (("repack", "0"),), "kvu": (("kvu", "1"),)}
_KINDS = {"single": "single", "busy": "single", "crowd": "crowd", "crowd-64": "crowd"}
_NEAREST = {MIDDLE: SMALL, LARGER: LARGE, LONG: SMALL}


def trials() -> list[Group]:
    """What is run: one group for each file, its contenders llama.cpp with the base and with each switch flipped."""
    found = []
    for shape, end, users, formats in (
        (SMALL, "", 32, ("Q8_0", "Q4_0")),
        (LARGE, "-short", 8, ("Q8_0", "Q4_0", "Q4_K_M", "Q6_K")),
    ):
        for format in formats:
            first = format == "Q8_0"
            single, crowd = (("fa", "repack"), ("fa", "kvu", "repack")) if first else (("repack",), ("repack",))
            found.append(_trial("single", shape, format, (f"decode-1{end}", "prompt-512"), single))
            if format != "Q6_K":
                found.append(_trial("crowd", shape, format, (f"decode-{users}{end}",), crowd))
    return found


def _trial(kind: str, shape: str, format: str, works: tuple[str, ...], flips: tuple[str, ...]) -> Group:
    tried = tuple(Contender("llama.cpp", shape, format, s) for s in (BASE, *(_FLIPS[flip] for flip in flips)))
    return Group(f"probe {kind} {shape} {format}", works, tried, rounds=1, repeat=2)


def run(folder: Path, threads: int, deadline: float | None, patience_s: float) -> bool:
    """Runs the trials and writes what they chose; False when the deadline cut them."""
    samples = folder / "probes.jsonl"
    done = runner.run(trials(), runner.Options(samples, 1, threads, deadline, patience_s, lambda *_: BASE))
    (folder / "settings.json").write_text(json.dumps(choose(store.load(samples)), indent=1) + "\n")
    return done


def load(folder: Path) -> Best:
    """What the trials chose; empty without them: llama.cpp then runs on the base."""
    path = folder / "settings.json"
    read: dict[str, list[list[str]]] = json.loads(path.read_text()) if path.exists() else {}
    return {key: tuple((name, value) for name, value in pairs) for key, pairs in read.items()}


def choose(samples: list[store.Sample]) -> dict[str, Settings]:
    """The flips that are faster, by `KIND SHAPE FORMAT prompt|decode`."""
    rates: dict[tuple[str, str, str], float] = {}
    for trial in trials():
        for contender in trial.contenders:
            for sample in _usable(samples, trial.name, contender.label):
                for work, values in sample["values"].items():
                    tried = (trial.name, WORKS[work].kind, _flip_of(contender.settings))
                    rates[tried] = statistics.median(value["tok_s"] for value in values)
    found: dict[str, Settings] = {}
    for (name, kind, flip), rate in rates.items():
        key = f"{name.removeprefix('probe ')} {kind}"
        found.setdefault(key, ())
        if flip and rate > rates.get((name, kind, ""), float("inf")):
            found[key] += _FLIPS[flip]
    return found


def settings_for(best: Best, kind: str, contender: Contender, work_kind: str) -> Settings:
    """Attention and cache from the Q8_0 file, repacking from the format's own, of this shape or the nearest."""
    if contender.engine != "llama.cpp" or kind not in _KINDS:
        return BASE
    shape, kind = _NEAREST.get(contender.shape, contender.shape), _KINDS[kind]
    attention = best.get(f"{kind} {shape} Q8_0 {work_kind}", ())
    weights = best.get(f"{kind} {shape} {contender.format} {work_kind}", ())
    return (*(s for s in attention if s[0] != "repack"), *(s for s in weights if s[0] == "repack"))


def _usable(samples: list[store.Sample], group: str, label: str) -> list[store.Sample]:
    """Undisturbed ones if there are any; the last counts."""
    whole = [s for s in samples if (s["group"], s["contender"]) == (group, label) and "error" not in s]
    calm = [s for s in whole if s["foreign_share"] <= runner.MAX_FOREIGN]
    return calm or whole


def _flip_of(settings: Any) -> str:
    return settings[0][0] if settings else ""
