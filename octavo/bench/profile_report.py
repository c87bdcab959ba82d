"""The profile of steps as tables of text."""

from __future__ import annotations

from collections.abc import Sequence

from octavo.bench.profile import FusionTime, Line, Profiles, StepProfile
from octavo.bench.report import share, table

_HEAD = ("", "stages", "us", "share", "waited", "GB/s", "Gop/s", "limit us", "of limit")


def report(result: Profiles, *, every: bool) -> str:
    """Kinds and instructions of every step; `every` lists each layer's by itself."""
    rates = ", ".join(f"{name} {rate:.0f}" for name, rate in result.gop_per_s.items())
    parts = [f"{result.model}: {result.isa}, {result.threads} threads; {result.gb_per_s:.1f} GB/s; Gop/s: {rates}"]
    parts += [_step(step, every) for step in result.steps]
    if result.fusions:
        parts.append(_fusions(result.fusions))
    return "\n\n".join(parts)


def _step(profile: StepProfile, every: bool) -> str:
    step = profile.step
    title = f"{step.name}: {step.num_rows} rows of {step.num_tokens} tokens, context {step.context}"
    whole = f"{profile.step_us:.0f} us a step, limit {profile.limit_us:.0f} us: {share(profile.fraction)}"
    lines = profile.instructions if every else profile.groups
    return "\n".join([title, whole, "", _table("kind", profile.kinds), "", _table("instruction", lines)])


def _table(name: str, lines: Sequence[Line]) -> str:
    rows = [
        (line.name, line.count, line.wall_us, _percent(line.share), _percent(line.waited), line.gb_per_s,
         line.gop_per_s, line.limit_us, _percent(line.fraction))
        for line in lines
    ]  # fmt: skip
    return table((name, *_HEAD[1:]), rows)


def _percent(value: float) -> str:
    return f"{100 * value:.0f}%"


def _fusions(times: Sequence[FusionTime]) -> str:
    rows = [(t.step, t.left_out, t.step_us, f"{100 * (t.ratio - 1):+.1f}%") for t in times]
    return table(("step", "fusion left out", "us", "longer"), rows)
