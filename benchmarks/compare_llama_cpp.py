"""Throughput of Octavo and llama.cpp on the same GGUF files, in one run, their measurements alternating.

python -m benchmarks.compare_llama_cpp --llama-python PATH [--shape NAME] [--formats ...] (see benchmarks/README.md)
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.engine import WORKERS, Engine, Sample, wait_for_quiet
from tools.make_model.cache import cached_model
from tools.make_model.gguf import CHOICES
from tools.make_model.shapes import SHAPES

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
PROBE_OUTPUT = 17  # tokens of an answer while llama.cpp's settings are chosen
METHOD = (
    "Both engines hold the model in a process of their own, idle while the other is measured; within a round each "
    "number of requests is measured on both, and the order of the two alternates.",
    "Octavo: LLM.generate in process, wall time of the whole call (scheduler, sampling and Python included). Prefill "
    "is a call whose answers have one token; decode is the time of the whole call less that of the prefill call.",
    "llama.cpp: llama-cpp-python's low-level interface; prompts in llama_decode batches of up to 2048 tokens (pieces "
    "of 512), then a batch of one token of each sequence a step. Only the time inside llama_decode counts: filling "
    "batches and choosing tokens do not.",
    "llama.cpp's flash attention (on or off) and KV cache (unified or one stream a sequence) are the faster of the "
    "combinations in a probe before the rounds, for each model and number of requests.",
    "Weights are random (standard deviation 0.02): speed does not depend on them.",
    "Each sample waits for a quiet machine. One during which other processes used more than the allowed share of the "
    "processors is measured again; the share of the kept ones is in the table.",
)


@dataclass(frozen=True)
class Settings:
    """How one run of the comparison is done."""

    threads: int
    requests: tuple[int, ...]
    input_len: int
    output_len: int
    rounds: int
    max_foreign: float
    retries: int
    patience_s: float

    def whole(self, requests: int) -> dict[str, Any]:
        """The arguments of a measurement."""
        return {"requests": requests, "input_len": self.input_len, "output_len": self.output_len}

    def probe(self, requests: int) -> dict[str, Any]:
        """The same with short answers."""
        return self.whole(requests) | {"output_len": min(PROBE_OUTPUT, self.output_len)}


def compare(model: Path, name: str, llama_python: str, settings: Settings) -> tuple[dict[str, Any], dict[str, Any]]:
    """All points of one file, and what each engine says of itself."""
    commands = {
        "octavo": [sys.executable, str(WORKERS / "octavo_worker.py")],
        "llama.cpp": [llama_python, str(WORKERS / "llama_worker.py")],
    }
    with contextlib.ExitStack() as stack:
        engines = [stack.enter_context(contextlib.closing(Engine(e, command))) for e, command in commands.items()]
        ours, theirs = engines
        length = settings.input_len + settings.output_len
        facts = {
            engine.name: engine.ask(
                "open", model=str(model), threads=settings.threads, max_requests=max(settings.requests), length=length
            )
            for engine in engines
        }
        chosen = {}
        for requests in settings.requests:
            ours.measure(**settings.probe(requests), seed=1)  # a warm-up, as the choice is for the other
            chosen[requests] = _faster_setting(theirs, requests, settings)
        samples = _rounds(name, ours, theirs, chosen, settings)
        measured = {
            "name": name,
            "bytes": model.stat().st_size,
            "load_s": {engine: said["load_s"] for engine, said in facts.items()},
            "resident_mib": {engine.name: engine.resident_bytes >> 20 for engine in engines},
            "points": [_point(requests, samples, chosen[requests], settings) for requests in settings.requests],
        }
    return measured, facts


def _rounds(
    name: str, ours: Engine, theirs: Engine, chosen: dict[int, dict[str, bool]], settings: Settings
) -> dict[tuple[str, int], list[Sample]]:
    """All samples by engine and number of requests."""
    samples: dict[tuple[str, int], list[Sample]] = {}
    for number in range(settings.rounds):
        for requests in settings.requests:
            for engine in (ours, theirs) if number % 2 == 0 else (theirs, ours):
                arguments = settings.whole(requests) | (chosen[requests] if engine is theirs else {})
                sample = _undisturbed(engine, settings, arguments, seed=100 + number)
                samples.setdefault((engine.name, requests), []).append(sample)
                where = f"{name}, {requests} requests, round {number + 1}, {engine.name}"
                parts = f"prefill {sample.prefill_s:.2f} s, decode {sample.decode_s:.2f} s"
                print(f"{where}: {parts}, others {sample.foreign_share:.2f}", file=sys.stderr)
    return samples


def _faster_setting(engine: Engine, requests: int, settings: Settings) -> dict[str, bool]:
    """The setting whose time for the real lengths, extrapolated from a short answer, is the least."""
    probe = settings.probe(requests)
    best: tuple[float, dict[str, bool]] | None = None
    for flash in (True, False):
        for unified in (False, True) if requests > 1 else (False,):
            setting = {"flash": flash, "unified": unified}
            engine.measure(**probe, **setting, seed=2)
            sample = _undisturbed(engine, settings, probe | setting, seed=3)
            decode_s = sample.decode_s / (probe["output_len"] - 1) * (settings.output_len - 1)
            if best is None or sample.prefill_s + decode_s < best[0]:
                best = sample.prefill_s + decode_s, setting
    assert best is not None
    return best[1]


def _undisturbed(engine: Engine, settings: Settings, arguments: dict[str, Any], *, seed: int) -> Sample:
    """A sample that others did not disturb, or the least disturbed of all tries."""
    tries: list[Sample] = []
    for attempt in range(settings.retries + 1):
        wait_for_quiet(settings.max_foreign, settings.patience_s)  # in which the other engine's workers go to sleep
        tries.append(engine.measure(**arguments, seed=seed + 1000 * attempt))
        if tries[-1].foreign_share <= settings.max_foreign:
            break
    return min(tries, key=lambda sample: sample.foreign_share)


def _point(
    requests: int, samples: dict[tuple[str, int], list[Sample]], setting: dict[str, bool], settings: Settings
) -> dict[str, Any]:
    point: dict[str, Any] = {"requests": requests}
    for engine in ("octavo", "llama.cpp"):
        measured = [asdict(sample) for sample in samples[engine, requests]]
        medians = report.rates(measured, requests, settings.input_len, settings.output_len)
        point[engine] = {"tokens_per_s": medians, "samples": measured}
    flash, unified = setting["flash"], setting["unified"]
    point["llama.cpp"]["setting"] = (
        f"flash attention {'on' if flash else 'off'}, {'unified KV' if unified else 'one KV stream a sequence'}"
    )
    ours, theirs = (point[engine]["tokens_per_s"] for engine in ("octavo", "llama.cpp"))
    point["ratio"] = {part: ours[part] / theirs[part] for part in report.PARTS}
    return point


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare_llama_cpp", description=__doc__)
    option = parser.add_argument
    option("--llama-python", required=True, help="Python of an environment with llama-cpp-python")
    option("--shape", choices=sorted(SHAPES), default="smollm2-135m", help="(default: %(default)s)")
    option("--formats", nargs="+", choices=CHOICES, default=["Q8_0", "BF16"], help="(default: %(default)s)")
    option("--model", type=Path, action="append", help="a GGUF file instead of shape and formats (repeatable)")
    option("--requests", type=int, nargs="+", default=[1, 8, 32], help="requests at once (default: %(default)s)")
    option("--input-len", type=int, default=128, help="tokens of a prompt (default: %(default)s)")
    option("--output-len", type=int, default=128, help="tokens of an answer (default: %(default)s)")
    option("--rounds", type=int, default=3, help="samples of each point (default: %(default)s)")
    option("--threads", type=int, default=os.cpu_count(), help="of both engines (default: %(default)s)")
    option("--max-foreign", type=float, default=0.1, help="share of other processes (default: %(default)s)")
    option("--retries", type=int, default=3, help="of a disturbed sample (default: %(default)s)")
    option("--patience", type=float, default=30, help="seconds to wait for a quiet machine before a sample "
           "(default: %(default)s)")  # fmt: skip
    option("--name", help="of the result files (default: llama_cpp-SHAPE)")
    option("--out", type=Path, default=RESULTS, help="folder of the result files (default: benchmarks/results)")
    options = parser.parse_args(arguments)
    if options.output_len < 2:
        parser.error("--output-len must be at least 2: decode is the time after the first token")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    settings = Settings(options.threads, tuple(options.requests), options.input_len, options.output_len,
                        options.rounds, options.max_foreign, options.retries, options.patience)  # fmt: skip
    models = {path.stem: path for path in options.model or ()}
    if not models:
        models = {f"{options.shape} {format}": cached_model(options.shape, format) for format in options.formats}
    results: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "machine": report.machine(),
        "workload": {"input_len": options.input_len, "output_len": options.output_len, "rounds": options.rounds},
        "method": METHOD,
        "engines": {},
        "models": [],
    }
    for name, path in models.items():
        measured, facts = compare(path, name, options.llama_python, settings)
        results["models"].append(measured)
        results["engines"] = {e: {"version": f["version"], "settings": f["settings"]} for e, f in facts.items()}
    results["engines"]["octavo"]["version"] += f" ({report.revision(ROOT)})"
    path = report.write(results, options.out, options.name or f"llama_cpp-{options.shape}")
    print(report.table(results))
    print(f"written: {path}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
