"""What a comparison leaves behind: one JSON file with every sample, one Markdown file with the table and the method."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PARTS = ("prefill", "decode", "total")


def machine() -> dict[str, Any]:
    """The facts that speed depends on."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    huge = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "huge_pages": huge.read_text().split("[")[1].split("]")[0] if huge.exists() else "unknown",
    }


def revision(root: Path) -> str:
    """The commit of the sources, with a mark where the sources of the package differ from it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "octavo", "csrc")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + (" with local changes" if changed else "")


def rates(samples: Sequence[Mapping[str, float]], requests: int, input_len: int, output_len: int) -> dict[str, float]:
    """Medians of tokens per second over all requests: of the prompts, of the answers' later tokens, of both."""
    tokens = {
        "prefill": requests * input_len,
        "decode": requests * (output_len - 1),
        "total": requests * (input_len + output_len),
    }
    return {part: statistics.median(tokens[part] / sample[f"{part}_s"] for sample in samples) for part in PARTS}


def table(results: Mapping[str, Any]) -> str:
    """The numbers as a Markdown table."""
    lines = [
        "| model | requests | part | Octavo tok/s | llama.cpp tok/s | ratio | others' CPU share (worst sample) |",
        "|---|---|---|---|---|---|---|",
    ]
    for model in results["models"]:
        for point in model["points"]:
            ours, theirs = point["octavo"], point["llama.cpp"]
            worst = max(sample["foreign_share"] for sample in ours["samples"] + theirs["samples"])
            for part in PARTS:
                lines.append(
                    f"| {model['name']} | {point['requests']} | {part} | {ours['tokens_per_s'][part]:.1f} | "
                    f"{theirs['tokens_per_s'][part]:.1f} | {point['ratio'][part]:.2f} | {worst:.2f} |"
                )
    return "\n".join(lines)


def markdown(results: Mapping[str, Any]) -> str:
    """Table, method, machine, settings."""
    load, host = results["workload"], results["machine"]
    lines = [
        "# Octavo beside llama.cpp on the same files",
        "",
        f"{results['date']}. Prompts of {load['input_len']} random tokens, answers of {load['output_len']}, end of "
        f"sequence ignored, greedy. Medians of {load['rounds']} interleaved rounds; ratio above 1: Octavo is faster.",
        "",
        table(results),
        "",
        "## Method",
        "",
        *(f"- {line}" for line in results["method"]),
        "",
        "## Machine and settings",
        "",
        *(f"- {name}: {value}" for name, value in host.items()),
        *(f"- {name}: {engine['version']}; {engine['settings']}" for name, engine in results["engines"].items()),
    ]
    for model in results["models"]:
        chosen = ", ".join(
            f"{point['requests']} requests: {point['llama.cpp']['setting']}" for point in model["points"]
        )
        lines.append(f"- llama.cpp on {model['name']}: {chosen}")
        seconds, resident = model["load_s"], model["resident_mib"]
        lines.append(
            f"- {model['name']}: a file of {model['bytes'] / 2**20:.0f} MiB; loaded in {seconds['octavo']:.2f} s and "
            f"{seconds['llama.cpp']:.2f} s, resident afterwards {resident['octavo']} and {resident['llama.cpp']} MiB "
            "(Octavo and llama.cpp; KV of all requests included)"
        )
    return "\n".join(lines) + "\n"


def write(results: Mapping[str, Any], folder: Path, name: str) -> Path:
    """Writes NAME.json and NAME.md; returns the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
    path = folder / f"{name}.md"
    path.write_text(markdown(results))
    return path
