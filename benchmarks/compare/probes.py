"""llama.cpp's best settings, found before the rounds: flash attention, repacked weights, one KV cache for all.

Every combination is tried once in the order of a short ladder; the fastest of each group is what the rounds use. The
trials are kept beside the samples, and what they chose in `settings.json`.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.compare import runner, store
from benchmarks.compare.plan import WORKS, Contender, Group

Settings = tuple[tuple[str, str], ...]
_SINGLE: tuple[Settings, ...] = (
    (("fa", "1"),),
    (("fa", "0"),),
    (("fa", "1"), ("repack", "0")),
)
_SEVERAL: tuple[Settings, ...] = (
    (("fa", "1"),),
    (("fa", "0"),),
    (("fa", "1"), ("kvu", "1")),
    (("fa", "1"), ("repack", "0")),
)


def run(groups: list[Group], options: runner.Options, folder: Path) -> bool:
    """Tries all settings of llama.cpp in the offline groups, and writes the best; False when the deadline cut it."""
    probing = runner.Options(folder / "probes.jsonl", 1, options.threads, options.deadline, options.patience_s, {})
    trials = [trial for group in groups if (trial := _trial(group)) is not None]
    done = runner.run(trials, probing)
    best = choose(store.load(probing.samples), trials)
    merged = {**_read(folder), **best}
    (folder / "settings.json").write_text(json.dumps(merged, indent=1) + "\n")
    options.best.update(load(folder))
    return done


def load(folder: Path) -> runner.Best:
    """Settings by group, contender and kind of work; empty without probes: every engine then runs on its defaults."""
    return {
        group: {
            label: {kind: tuple((name, value) for name, value in pairs) for kind, pairs in kinds.items()}
            for label, kinds in chosen.items()
        }
        for group, chosen in _read(folder).items()
    }


def choose(samples: list[store.Sample], trials: list[Group]) -> dict[str, dict[str, dict[str, Settings]]]:
    """The fastest setting for each kind of work of each group; a trial that failed is none, a disturbed one only where
    there is no other."""
    best: dict[str, dict[str, dict[str, Settings]]] = {}
    for trial in trials:
        fastest: dict[tuple[str, str], tuple[bool, float, Settings]] = {}
        for contender in trial.contenders:
            plain = Contender(contender.engine, contender.shape, contender.format).label
            for sample in samples:
                if (sample["group"], sample["contender"]) != (trial.name, contender.label) or "error" in sample:
                    continue
                for work, values in sample["values"].items():
                    calm = sample["foreign_share"] <= runner.MAX_FOREIGN
                    found = (calm, statistics.median(v["tok_s"] for v in values), contender.settings)
                    key = plain, WORKS[work].kind
                    fastest[key] = max(fastest.get(key, found), found, key=lambda f: f[:2])
        group = trial.name.removeprefix("probe ")
        for (label, kind), (_, _, settings) in fastest.items():
            best.setdefault(group, {}).setdefault(label, {})[kind] = settings
    return best


def _trial(group: Group) -> Group | None:
    """The group's llama.cpp contender in all settings, each workload once."""
    peers = [c for c in group.contenders if c.engine == "llama.cpp" and not c.settings]
    if group.served or group.burners or not peers:
        return None
    several = any(WORKS[work].users > 1 for work in group.works)
    works = tuple(w for w in group.works if WORKS[w].users in (1, 32) and WORKS[w].input_len <= 512)
    contenders = tuple(
        Contender(peer.engine, peer.shape, peer.format, settings)
        for peer in peers
        for settings in (_SEVERAL if several else _SINGLE)
    )
    return Group(f"probe {group.name}", works, contenders, rounds=1, repeat=2)


def _read(folder: Path) -> dict[str, Any]:
    path = folder / "settings.json"
    return json.loads(path.read_text()) if path.exists() else {}
