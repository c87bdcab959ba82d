"""Judging: samples to medians, medians to lines of the table with what was reached and whether the target was met.

Pure: knows samples, the limits' arithmetic and kinds of targets, not which targets there are.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.compare import limits
from benchmarks.compare.plan import WORKS
from benchmarks.compare.runner import MAX_FOREIGN
from tools.make_model.shapes import SHAPES

CAP = 0.85  # of the limit: beyond it no ratio is asked for

Key = tuple[str, str, str]
"""Group, contender, workload."""


@dataclass(frozen=True)
class Measured:
    """Medians of all metrics of one point. `num` is how many values there are, `calm` whether others kept away."""

    metrics: Mapping[str, float]
    num: int
    calm: bool


@dataclass(frozen=True)
class Line:
    """One line of the table; `met` is None where something was not measured."""

    work: str
    target: str
    ours: str
    theirs: str
    ratio: float | None
    fraction: float | None
    met: bool | None
    calm: bool = True


@dataclass(frozen=True)
class Results:
    """All points of a run, and the limits of the machine in each group."""

    points: Mapping[Key, Measured]
    machines: Mapping[str, limits.Machine]
    matrices: Mapping[str, list[limits.Matrix]]

    def limit(self, group: str, label: str, work: str) -> float | None:
        """Tokens a second at most of an offline workload; None for the others."""
        _, shape, format, *settings = label.split(" ")
        name = f"{shape} {format}"
        if work not in WORKS or group not in self.machines or name not in self.matrices:
            return None
        kv_bytes = 1.0625 if settings and settings[0] in ("kv=int8", "kv=q8_0") else 2.0
        return limits.limit(SHAPES[shape], self.matrices[name], WORKS[work], self.machines[group], kv_bytes)


def results_of(samples: Iterable[Mapping[str, Any]], facts: Mapping[str, Any]) -> Results:
    """Medians; a disturbed sample counts only where a point has no other.

    Bandwidth moves with the minute on a shared host: each group has that of its own samples. Peaks of products do not:
    they are the medians of the run.
    """
    taken: dict[Key, list[tuple[bool, Mapping[str, float]]]] = {}
    limited: dict[str, list[tuple[bool, Mapping[str, float]]]] = {}
    for sample in samples:
        for work, values in sample.get("values", {}).items():
            key = (sample["group"], sample["contender"], work)
            taken.setdefault(key, []).extend((sample["foreign_share"] <= MAX_FOREIGN, value) for value in values)
        limited.setdefault(sample["group"], []).extend(
            (sample["foreign_share"] <= MAX_FOREIGN, limit) for limit in sample.get("limits", ())
        )
    points = {key: _median(values) for key, values in taken.items()}
    whole = _median([value for values in limited.values() for value in values]).metrics if limited else {}
    machines = {
        group: limits.Machine(1e9 * m["bandwidth_gbs"], 1e9 * whole["int8_gops"], 1e9 * whole["bf16_gflops"])
        for group, values in limited.items()
        if (m := _median(values).metrics)
    }
    matrices = {
        name: [limits.Matrix(r, c, b, i, h) for r, c, b, i, h, count in listed for _ in range(count)]
        for name, listed in facts.get("matrices", {}).items()
    }
    return Results(points, machines, matrices)


def _median(values: list[tuple[bool, Mapping[str, float]]]) -> Measured:
    calm = [value for undisturbed, value in values if undisturbed]
    used = calm or [value for _, value in values]
    names = sorted({name for value in used for name in value})
    medians = {name: statistics.median(v[name] for v in used if name in v) for name in names}
    return Measured(medians, len(used), bool(calm))


# ---------------------------------------------------------------- kinds of targets


@dataclass(frozen=True)
class Speed:
    """Tokens a second against a peer, the limit, or both. The best of several peers counts."""

    work: str
    group: str
    label: str
    workload: str
    peers: tuple[tuple[str, str, str], ...] = ()  # group, contender, workload
    ratio: float | None = None
    fraction: float | None = None
    metric: str = "tok_s"

    def judge(self, results: Results) -> Line:
        ours = results.points.get((self.group, self.label, self.workload))
        theirs = [p for key in self.peers if (p := results.points.get(key)) is not None]
        limit = results.limit(self.group, self.label, self.workload) if self.metric == "tok_s" else None
        if ours is None or (self.peers and not theirs):
            return Line(self.work, self._target(None), _rate(ours), "not measured", None, None, None)
        speed = ours.metrics[self.metric]
        best = max((p.metrics[self.metric] for p in theirs), default=None)
        wanted, capped = 0.0, False
        if self.ratio is not None and best is not None:
            wanted = self.ratio * best
            if limit is not None and wanted > CAP * limit:
                wanted, capped = CAP * limit, True
        if self.fraction is not None and limit is not None:
            wanted = max(wanted, self.fraction * limit)
        return Line(
            self.work,
            self._target(capped),
            _rate(ours, self.metric),
            "" if best is None else f"{best:.4g}",
            None if best is None else speed / best,
            None if limit is None else speed / limit,
            speed >= wanted,
            ours.calm and all(p.calm for p in theirs),
        )

    def _target(self, capped: bool | None) -> str:
        parts = []
        if self.ratio is not None:
            parts.append(f"{self.ratio:g}x" + (" (capped at 85% of the limit)" if capped else ""))
        if self.fraction is not None:
            parts.append(f"{self.fraction:.0%} of the limit")
        return ", ".join(parts)


@dataclass(frozen=True)
class Sooner:
    """Seconds or milliseconds: at most `most`, and the peer's at least `ratio` times ours."""

    work: str
    group: str
    label: str
    workload: str
    metric: str
    peers: tuple[tuple[str, str, str], ...] = ()
    ratio: float | None = None
    most: float | None = None

    def judge(self, results: Results) -> Line:
        ours = results.points.get((self.group, self.label, self.workload))
        theirs = [p for key in self.peers if (p := results.points.get(key)) is not None]
        targets = ([f"{self.ratio:g}x sooner"] if self.ratio else []) + ([f"under {self.most:g}"] if self.most else [])
        target, unit = ", ".join(targets), " ms" if self.metric.endswith("_ms") else " s"
        if ours is None or (self.peers and not theirs):
            return Line(self.work, target, "not measured" if ours is None else "", "not measured", None, None, None)
        value = ours.metrics[self.metric]
        best = min((p.metrics[self.metric] for p in theirs), default=None)
        met = (self.most is None or value <= self.most) and (
            self.ratio is None or best is None or best >= self.ratio * value
        )
        return Line(self.work, target, f"{value:.3g}{unit}", "" if best is None else f"{best:.3g}{unit}",
                    None if best is None else best / value, None, met,
                    ours.calm and all(p.calm for p in theirs))  # fmt: skip


@dataclass(frozen=True)
class Kept:
    """The share of the undisturbed speed that is left under a disturbance."""

    work: str
    disturbed: Key
    undisturbed: Key
    least: float
    peer: tuple[Key, Key]

    def judge(self, results: Results) -> Line:
        ours = _share(results, self.disturbed, self.undisturbed)
        theirs = _share(results, *self.peer)
        return Line(self.work, f"{self.least:.0%} of the undisturbed speed", "not measured" if ours is None else
                    f"{ours:.0%}", "not measured" if theirs is None else f"{theirs:.0%}",
                    ours / theirs if ours is not None and theirs else None, None,
                    None if ours is None else ours >= self.least)  # fmt: skip


@dataclass(frozen=True)
class Weighed:
    """Private memory against planned weights and KV, and against the whole plan."""

    work: str
    key: Key
    beside_mb: float

    def judge(self, results: Results) -> Line:
        point = results.points.get(self.key)
        target = f"weights + KV + {self.beside_mb:g} MB; plan within 5%"
        if point is None or "planned_total_bytes" not in point.metrics:
            return Line(self.work, target, "not measured", "", None, None, None)
        m = point.metrics
        private, planned = m["private_bytes"], m["planned_weights_bytes"] + m["planned_kv_bytes"]
        off = m["planned_total_bytes"] / private - 1
        met = private <= planned + self.beside_mb * 1e6 and abs(off) <= 0.05
        ours = f"{private / 1e6:.0f} MB: weights + KV + {(private - planned) / 1e6:.0f} MB; the plan is {off:+.1%} off"
        return Line(self.work, target, ours, "", None, None, met, point.calm)


Check = Speed | Sooner | Kept | Weighed


def _share(results: Results, disturbed: Key, undisturbed: Key) -> float | None:
    with_, without = results.points.get(disturbed), results.points.get(undisturbed)
    return None if with_ is None or without is None else with_.metrics["tok_s"] / without.metrics["tok_s"]


def _rate(measured: Measured | None, metric: str = "tok_s") -> str:
    return "not measured" if measured is None else f"{measured.metrics[metric]:.4g}"
