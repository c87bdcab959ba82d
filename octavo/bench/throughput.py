"""`octavo bench throughput` and `latency`: one engine in this process, tokens per second and seconds of a batch.

Runs of whole answers alternate with runs whose answers have one token, which tells prefill and decode apart, and with
the loops that show what the machine can do in the same minute. Reports medians.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from octavo.base.config import EngineArgs
from octavo.base.errors import ConfigError
from octavo.base.sampling import SamplingParams
from octavo.bench.limit import Work, least_work, model_limits
from octavo.bench.report import share
from octavo.bench.workload import Ask, check_positive, dataset_asks, random_asks

if TYPE_CHECKING:
    from octavo.backends.cpu.limits import MachineLimits
    from octavo.llm import LLM

PERCENTILES = (10, 25, 50, 75, 90, 99)
_DEFAULT_OUTPUT = 128


@dataclass(frozen=True)
class Workload:
    """`input_len` and `output_len` None: what the data set says (128 where it says nothing)."""

    num_prompts: int
    concurrency: int
    input_len: int | None
    output_len: int | None
    repeat: int
    warmup: int = 1
    dataset: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in ("num_prompts", "concurrency", "input_len", "output_len")}
        check_positive(**{name: value for name, value in given.items() if value is not None}, num_iters=self.repeat)
        if self.dataset is None and (self.input_len is None or self.output_len is None):
            raise ConfigError("Random prompts need input-len and output-len.")
        if self.warmup < 0:
            raise ConfigError(f"num-iters-warmup must not be negative, got {self.warmup}.")


@dataclass(frozen=True)
class Limits:
    """The machine's rates, measured between the runs, and the least seconds that the workload could take with them."""

    gb_per_s: float
    gop_per_s: dict[str, float]
    prefill_s: float
    decode_s: float

    @classmethod
    def of(cls, machine: MachineLimits, prefill_s: float, decode_s: float) -> Limits:
        rates: dict[str, float] = {name: 1e-9 * rate for name, rate in machine.operations_per_s.items()}
        return cls(1e-9 * machine.bytes_per_s, rates, prefill_s, decode_s)


@dataclass(frozen=True)
class Throughput:
    """Medians over the runs; rates in tokens per second over all requests.

    `num_requests` is the number there really were: a file may have fewer prompts than were asked for.
    The decode rate and its fraction are None where answers have one token, or are so short that the prefill hides the
    rest. `latencies_s` are those of the whole runs, in order. Fractions are limit / time.
    """

    model: str
    fingerprint: str
    workload: Workload
    num_requests: int
    prompt_tokens: int
    output_tokens: int
    longest_output: int
    seconds: float
    prefill_tokens_per_s: float
    decode_tokens_per_s: float | None
    total_tokens_per_s: float
    latencies_s: list[float]
    percentiles_s: dict[int, float]
    limits: Limits
    prefill_fraction: float
    decode_fraction: float | None
    total_fraction: float


def measure(args: EngineArgs, workload: Workload) -> Throughput:
    """Runs the workload `repeat` times after the warm-ups.

    Raises:
        ConfigError: a workload or an option out of its range, or a backend whose limits are not known.
    """
    from octavo.backends.cpu.backend import CpuBackend
    from octavo.backends.cpu.limits import LimitLoops, median_limits
    from octavo.llm import LLM

    chosen = replace(args, max_num_seqs=workload.concurrency, enable_prefix_caching=False)
    model = model_limits(chosen)
    with LLM(engine_args=chosen) as llm:
        loops = LimitLoops(CpuBackend(args.threads, numa=args.numa))
        asks = _asks(llm, workload, 0)
        for number in range(workload.warmup):
            _run(llm, _asks(llm, workload, -1 - number), most=2)
        first, whole, machine = [], [], []
        for number in range(workload.repeat):
            first.append(_run(llm, _asks(llm, workload, 2 * number), most=1))
            machine.append(loops.sample())
            whole.append(_run(llm, _asks(llm, workload, 2 * number + 1)))
        name, fingerprint = llm.info.name, llm.info.fingerprint
    lengths = [(len(ask.prompt), ask.output_len) for ask in asks]
    work = least_work(lengths, workload.concurrency, model.max_tokens)
    rates = median_limits(machine)
    limits = Limits.of(rates, model.seconds(work.prefill, rates), model.seconds(work.decode, rates))
    return summary(name, fingerprint, workload, lengths, first, whole, limits, work)


def summary(model: str, fingerprint: str, workload: Workload, lengths: Sequence[tuple[int, int]],
            first: Sequence[float], whole: Sequence[float], limits: Limits, work: Work) -> Throughput:  # fmt: skip
    """What the seconds of the runs say; `first` are runs of one token an answer."""
    prompt_tokens, output_tokens = (sum(counts) for counts in zip(*lengths, strict=True))
    prefill, total = statistics.median(first), statistics.median(whole)
    decode = total - prefill if work.decode else 0.0
    return Throughput(
        model=model,
        fingerprint=fingerprint,
        workload=workload,
        num_requests=len(lengths),
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        longest_output=max(tokens for _, tokens in lengths),
        seconds=total,
        prefill_tokens_per_s=prompt_tokens / prefill,
        decode_tokens_per_s=(output_tokens - len(lengths)) / decode if decode > 0 else None,
        total_tokens_per_s=(prompt_tokens + output_tokens) / total,
        latencies_s=list(whole),
        percentiles_s={p: percentile(whole, p) for p in PERCENTILES},
        limits=limits,
        prefill_fraction=limits.prefill_s / prefill,
        decode_fraction=limits.decode_s / decode if decode > 0 else None,
        total_fraction=(limits.prefill_s + limits.decode_s) / total,
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """Between the two nearest values, in proportion."""
    ordered = sorted(values)
    at = percent / 100 * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (at - low) * (ordered[high] - ordered[low])


def _asks(llm: LLM, workload: Workload, number: int) -> list[Ask]:
    """The prompts of run `number`: fresh random ones, or always those of the file."""
    if workload.dataset is not None:
        return dataset_asks(
            Path(workload.dataset),
            llm.get_tokenizer().encode,
            num_prompts=workload.num_prompts,
            input_len=workload.input_len,
            output_len=workload.output_len,
            default_output=_DEFAULT_OUTPUT,
        )
    assert workload.input_len is not None and workload.output_len is not None
    seed = 1000 * workload.seed + number
    return random_asks(workload.num_prompts, workload.input_len, workload.output_len, llm.info.vocab_size, seed=seed)


def _run(llm: LLM, asks: Sequence[Ask], *, most: int | None = None) -> float:
    """Seconds of all requests, whose answers have at most `most` tokens."""
    controls = [
        SamplingParams(
            temperature=0, max_tokens=min(ask.output_len, most or ask.output_len), ignore_eos=True, detokenize=False
        )
        for ask in asks
    ]
    begin = time.perf_counter()
    llm.generate([list(ask.prompt) for ask in asks], controls, use_tqdm=False)
    return time.perf_counter() - begin


def _heading(result: Throughput) -> str:
    load, rates = result.workload, result.limits
    asked = f"{result.num_requests} requests, {min(load.concurrency, result.num_requests)} at once"
    lengths = f"{result.prompt_tokens} tokens in, {result.output_tokens} out"
    speeds = ", ".join(f"{name} {rate:.0f}" for name, rate in rates.gop_per_s.items())
    return (
        f"{result.model} ({result.fingerprint})\n{asked}, {lengths}; median of {load.repeat}\n"
        f"machine: {rates.gb_per_s:.1f} GB/s; Gop/s: {speeds}"
    )


def throughput_report(result: Throughput) -> str:
    """Rates, and what they are of the limit."""
    decode = "none" if result.decode_tokens_per_s is None else f"{result.decode_tokens_per_s:.1f}"
    of_limit = f"  {share(result.decode_fraction)}" if result.decode_tokens_per_s is not None else ""
    return (
        f"{_heading(result)}\n"
        f"prefill {result.prefill_tokens_per_s:10.1f} tokens/s  {share(result.prefill_fraction)}\n"
        f"decode  {decode:>10} tokens/s{of_limit}\n"
        f"total   {result.total_tokens_per_s:10.1f} tokens/s  {share(result.total_fraction)}, in {result.seconds:.2f} s"
    )


def latency_report(result: Throughput) -> str:
    """Seconds of a batch, and what they are of the limit. All of it runs at once: the longest answer has every step."""
    prefill_s = result.prompt_tokens / result.prefill_tokens_per_s
    lines = [
        _heading(result),
        f"mean        {1e3 * statistics.fmean(result.latencies_s):10.1f} ms",
        *(f"p{percent:<10} {1e3 * seconds:10.1f} ms" for percent, seconds in result.percentiles_s.items()),
        f"first token {1e3 * prefill_s:10.1f} ms  {share(result.prefill_fraction)}",
    ]
    if result.decode_tokens_per_s is not None:
        step_s = (result.seconds - prefill_s) / (result.longest_output - 1)
        lines.append(f"later token {1e3 * step_s:10.2f} ms  {share(result.decode_fraction)}")
    lines.append(f"whole       {1e3 * result.seconds:10.1f} ms  {share(result.total_fraction)}")
    return "\n".join(lines)
