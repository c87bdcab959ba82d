"""What loading models takes of this process's memory; run as a program, so that nothing else is in the numbers.

python -m tests.integration.memory_probe MODEL...: prints one JSON object a line for each model.
"""

from __future__ import annotations

import gc
import json
import re
import sys
from pathlib import Path

from octavo.base.config import EngineArgs
from octavo.base.sampling import SamplingParams
from octavo.base.types import Request
from octavo.models.load import load_weights
from octavo.wiring import build_core, open_model, plan_memory

NUM_REQUESTS = 4
CONTEXT = 256


def engine_args(model: str) -> EngineArgs:
    return EngineArgs(
        model=model, threads=2, max_model_len=CONTEXT, max_num_seqs=NUM_REQUESTS, max_num_batched_tokens=64,
        kv_memory_bytes=8 << 20, enable_prefix_caching=False, backend="cpu",
    )  # fmt: skip


def resident_bytes() -> int:
    """Anonymous and file pages together."""
    gc.collect()
    return _kilobytes("/proc/self/smaps_rollup", "Rss")


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    return _kilobytes("/proc/self/status", "VmHWM")


def _kilobytes(path: str, name: str) -> int:
    match = re.search(rf"^{name}:\s+(\d+) kB", Path(path).read_text(), re.MULTILINE)
    assert match is not None, f"{path} has no {name}"
    return int(match[1]) * 1024


def loaded(model: str) -> dict[str, int]:
    """The weights alone, on the CPU backend."""
    args = engine_args(model)
    planned = plan_memory(args).weights_bytes
    before = resident_bytes()
    reset_peak()
    with open_model(args) as opened:
        in_file = sum(info.nbytes for info in opened.infos.values())
        largest = max(info.nbytes for info in opened.infos.values())
        weights = load_weights(opened.spec, opened.source, opened.backend)
        opened.backend.close()
    del opened
    peak, after = peak_bytes(), resident_bytes()
    allocated = sum(w.matrix.nbytes if w.matrix is not None else 4 * len(w.vector) for w in weights.values())
    return {"in_file": in_file, "largest": largest, "planned": planned, "allocated": allocated,
            "resident": after - before, "peak": peak - before}  # fmt: skip


def served(model: str) -> dict[str, int]:
    """A whole engine, after requests that use every page and as many rows as there can be."""
    args = engine_args(model)
    plan = plan_memory(args)
    before = resident_bytes()
    reset_peak()
    core, info = build_core(args)
    sampling = SamplingParams(temperature=0, seed=0, max_tokens=CONTEXT // 2, ignore_eos=True)
    for i in range(NUM_REQUESTS):
        prompt = tuple((7 * i + k) % info.vocab_size for k in range(CONTEXT // 2 - 1))
        core.add(Request(f"r{i}", prompt, sampling))
    while core.has_work:
        for event in core.step():
            assert event.error is None, event.error
    peak = peak_bytes()
    core.close()
    return {"planned_total": plan.model_bytes, "served_peak": peak - before}


def main(models: list[str]) -> None:
    loaded(models[0])  # once for nothing: modules, pools and arenas of the allocator are there afterwards
    for model in models:
        result = loaded(model)
        if model == models[-1]:
            result |= served(model)
        print(json.dumps({"model": model, **result}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
