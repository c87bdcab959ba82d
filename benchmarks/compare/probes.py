"""llama.cpp's best settings, found before the rounds: flash attention, repacked weights, one KV cache for all.

Each switch is flipped alone against the base (attention on, repacked, a cache for each sequence); the fastest of all is
used. Attention and cache do not see the weights' format: they are tried on the Q8_0 file of a shape; repacking is tried
for each format, for one request and for several. Shapes without trials of their own take those of the nearest.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.compare import runner, store
from benchmarks.compare.plan import LARGE, LARGER, LONG, MIDDLE, SMALL, WORKS, Contender, Group, Settings

Best = dict[str, Settings]
"""Settings to add, by `KIND SHAPE FORMAT prompt|decode`."""

BASE: Settings = ()
CLEARLY = 1.03  # how much faster a flip must be: the best of a few trials moves by that much
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
    """The base, or the flip that is clearly faster, by `KIND SHAPE FORMAT prompt|decode`. The best value of a trial
    counts: what disturbs it only makes it slower."""
    rates: dict[tuple[str, str, str], float] = {}
    for trial in trials():
        for contender in trial.contenders:
            for sample in samples:
                if (sample["group"], sample["contender"]) != (trial.name, contender.label):
                    continue
                for work, values in sample.get("values", {}).items():
                    tried = (trial.name, WORKS[work].kind, _flip_of(contender.settings))
                    rates[tried] = max(rates.get(tried, 0.0), *(value["tok_s"] for value in values))
    found: dict[str, Settings] = {}
    for name, kind in {(name, kind) for name, kind, _ in rates}:
        tried = {flip: rate for (n, k, flip), rate in rates.items() if (n, k) == (name, kind)}
        fastest = max(tried, key=lambda flip: tried[flip] if flip else CLEARLY * tried[flip])
        found[f"{name.removeprefix('probe ')} {kind}"] = _FLIPS[fastest] if fastest else BASE
    return dict(sorted(found.items()))


def settings_for(best: Best, kind: str, contender: Contender, work_kind: str) -> Settings:
    """Attention and cache from the Q8_0 file, repacking from the format's own, of this shape or the nearest."""
    if contender.engine != "llama.cpp" or kind not in _KINDS:
        return BASE
    shape, kind = _NEAREST.get(contender.shape, contender.shape), _KINDS[kind]
    attention = best.get(f"{kind} {shape} Q8_0 {work_kind}", ())
    weights = best.get(f"{kind} {shape} {contender.format} {work_kind}", ())
    return (*(s for s in attention if s[0] != "repack"), *(s for s in weights if s[0] == "repack"))


def _flip_of(settings: Any) -> str:
    return settings[0][0] if settings else ""
