"""Throughput of one engine in this process: random prompts, fixed lengths, medians over repeated runs.

Prompts are random token ids (no prefix is shared between runs), end-of-sequence is ignored, so that every run does
the same work. Prefill and decode are told apart by a run whose answers have one token.
"""

from __future__ import annotations

import random
import statistics
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from octavo.base.config import EngineArgs
from octavo.base.errors import ConfigError
from octavo.base.sampling import SamplingParams

if TYPE_CHECKING:
    from octavo.llm import LLM


@dataclass(frozen=True)
class Workload:
    num_prompts: int
    concurrency: int
    input_len: int
    output_len: int
    repeat: int

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                raise ConfigError(f"{name.replace('_', '-')} must be at least 1, got {value}.")


@dataclass(frozen=True)
class Throughput:
    """Medians over the runs; rates in tokens per second over all requests.

    The decode rate is None where answers have one token, or are so short that the prefill hides the rest.
    """

    model: str
    fingerprint: str
    workload: Workload
    seconds: float
    prefill_tokens_per_s: float
    decode_tokens_per_s: float | None
    total_tokens_per_s: float


def measure(args: EngineArgs, workload: Workload) -> Throughput:
    """Runs the workload `repeat` times after one warm-up."""
    from octavo.llm import LLM

    chosen = replace(args, max_num_seqs=workload.concurrency, enable_prefix_caching=False)
    with LLM(engine_args=chosen) as llm:
        _run(llm, workload, seed=0, output_len=2)
        first, whole = [], []
        for seed in range(1, workload.repeat + 1):
            first.append(_run(llm, workload, seed=2 * seed, output_len=1))
            whole.append(_run(llm, workload, seed=2 * seed + 1, output_len=workload.output_len))
        prompt_tokens = workload.num_prompts * workload.input_len
        output_tokens = workload.num_prompts * workload.output_len
        prefill, total = statistics.median(first), statistics.median(whole)
        decode = total - prefill if workload.output_len > 1 else 0.0
        return Throughput(
            model=llm.info.name,
            fingerprint=llm.info.fingerprint,
            workload=workload,
            seconds=total,
            prefill_tokens_per_s=prompt_tokens / prefill,
            decode_tokens_per_s=(output_tokens - workload.num_prompts) / decode if decode > 0 else None,
            total_tokens_per_s=(prompt_tokens + output_tokens) / total,
        )


def _run(llm: LLM, workload: Workload, *, seed: int, output_len: int) -> float:
    draw = random.Random(seed)
    vocab = llm.info.vocab_size
    prompts = [[draw.randrange(vocab) for _ in range(workload.input_len)] for _ in range(workload.num_prompts)]
    sampling = SamplingParams(temperature=0, max_tokens=output_len, ignore_eos=True, detokenize=False)
    begin = time.perf_counter()
    llm.generate(prompts, sampling, use_tqdm=False)
    return time.perf_counter() - begin


def report(result: Throughput, *, as_json: bool) -> str:
    """The result as text or JSON."""
    if as_json:
        import orjson

        return orjson.dumps(asdict(result), option=orjson.OPT_INDENT_2).decode()
    load = result.workload
    decode = "none" if result.decode_tokens_per_s is None else f"{result.decode_tokens_per_s:.1f}"
    return (
        f"{result.model} ({result.fingerprint})\n"
        f"{load.num_prompts} requests, {load.concurrency} at once, {load.input_len} tokens in, "
        f"{load.output_len} out, median of {load.repeat}\n"
        f"prefill {result.prefill_tokens_per_s:10.1f} tokens/s\n"
        f"decode  {decode:>10} tokens/s\n"
        f"total   {result.total_tokens_per_s:10.1f} tokens/s in {result.seconds:.2f} s"
    )
