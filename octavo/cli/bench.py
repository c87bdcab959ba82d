"""`octavo bench`: what the engine, its kernels and its start do on this machine, beside what the machine could do."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from octavo.base.errors import ConfigError
from octavo.cli.options import add_engine_options, add_model, engine_args, length, one_model

if TYPE_CHECKING:
    from octavo.bench.throughput import Throughput

Parser = argparse.ArgumentParser


@dataclass(frozen=True)
class Kind:
    """One benchmark: its line of help, its options, and what runs it."""

    text: str
    add_options: Callable[[Parser], None]
    run: Callable[[argparse.Namespace], None]


def add_options(parser: Parser) -> None:
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    for name, kind in KINDS.items():
        kind.add_options(kinds.add_parser(name, help=kind.text, description=kind.text[0].upper() + kind.text[1:] + "."))


def run(options: argparse.Namespace) -> int:
    from octavo.bench.report import check_writable

    check_writable(options.json)
    KINDS[options.kind].run(options)
    return 0


def _add_json(option: Callable[..., object]) -> None:
    option("--json", "--output-json", metavar="FILE", help="write everything to FILE as JSON (-: print it instead)")


def _refuse(options: argparse.Namespace, reasons: dict[str, str]) -> None:
    """Engine options that the benchmark sets by itself, or has no use for."""
    for name, reason in reasons.items():
        given = getattr(options, name)
        if given is not None and given is not False:
            flag = "kv-memory" if name == "kv_memory_bytes" else name.replace("_", "-")
            raise ConfigError(f"--{flag} is not for this benchmark: {reason}.")


def _print(report: str, result: object, to: str | None) -> None:
    from octavo.bench.report import write_json

    if to != "-":
        print(report)
    if to is not None:
        write_json(result, to)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _numbers(text: str) -> tuple[int, ...]:
    names = _names(text)
    if not names or not all(name.isdecimal() and int(name) for name in names):
        raise argparse.ArgumentTypeError(f"{text!r} are no numbers from 1 up, such as 1,8,512")
    return tuple(map(int, names))


# ---------------------------------------------------------------- throughput and latency

# tokens of a random prompt and of its answer
_THROUGHPUT_LENGTHS = (128, 128)
_LATENCY_LENGTHS = (32, 128)


def _throughput_options(parser: Parser) -> None:
    add_engine_options(parser)
    option = parser.add_argument_group("workload").add_argument
    option("--num-prompts", type=int, default=32, help="requests, all there from the start (default: %(default)s)")
    option("--concurrency", type=int, help="most requests at once (default: all)")
    _workload_options(option, *_THROUGHPUT_LENGTHS)
    option("--num-iters", "--repeat", dest="repeat", type=int, default=3, metavar="N",
           help="runs; the median is reported (default: %(default)s)")  # fmt: skip
    option("--num-iters-warmup", type=int, default=1, metavar="N", help="runs before (default: %(default)s)")
    _add_json(option)


def _latency_options(parser: Parser) -> None:
    add_engine_options(parser)
    option = parser.add_argument_group("workload").add_argument
    option("--batch-size", type=int, default=8, help="requests of a batch (default: %(default)s)")
    _workload_options(option, *_LATENCY_LENGTHS)
    option("--num-iters", "--repeat", dest="repeat", type=int, default=10, metavar="N",
           help="batches, one after the other (default: %(default)s)")  # fmt: skip
    option("--num-iters-warmup", type=int, default=2, metavar="N", help="batches before (default: %(default)s)")
    _add_json(option)


def _workload_options(option: Callable[..., object], input_len: int, output_len: int) -> None:
    option("--input-len", type=length, metavar="N",
           help=f"tokens of a prompt (default: {input_len}; with --dataset: as there)")  # fmt: skip
    option("--output-len", type=length, metavar="N",
           help=f"tokens of an answer (default: {output_len}; with --dataset: as there)")  # fmt: skip
    option("--dataset", "--dataset-path", metavar="FILE",
           help="prompts from a file instead of random tokens: one a line, .jsonl with `prompt` and perhaps "
           "`output_len`, or .json in ShareGPT's shape")  # fmt: skip
    option("--prompt-seed", type=int, default=0, metavar="N", help="of the random prompts (default: %(default)s)")


def _measure_engine(options: argparse.Namespace, num_prompts: int, concurrency: int, defaults: tuple[int, int],
                    ) -> Throughput:  # fmt: skip
    from octavo.bench.throughput import Workload, measure

    by = "--concurrency" if options.kind == "throughput" else "--batch-size"
    _refuse(options, {"max_num_seqs": f"{by} says how many run at once",
                      "enable_prefix_caching": "runs are to do the same work"})  # fmt: skip
    lengths = [options.input_len, options.output_len]
    if options.dataset is None:
        lengths = [default if given is None else given for given, default in zip(lengths, defaults, strict=True)]
    workload = Workload(
        num_prompts=num_prompts,
        concurrency=concurrency,
        input_len=lengths[0],
        output_len=lengths[1],
        repeat=options.repeat,
        warmup=options.num_iters_warmup,
        dataset=options.dataset,
        seed=options.prompt_seed,
    )
    return measure(engine_args(options), workload)


def _throughput(options: argparse.Namespace) -> None:
    from octavo.bench.throughput import throughput_report

    concurrency = options.num_prompts if options.concurrency is None else options.concurrency
    result = _measure_engine(options, options.num_prompts, concurrency, _THROUGHPUT_LENGTHS)
    _print(throughput_report(result), result, options.json)


def _latency(options: argparse.Namespace) -> None:
    from octavo.bench.throughput import latency_report
    from octavo.bench.workload import check_positive

    check_positive(batch_size=options.batch_size)
    result = _measure_engine(options, options.batch_size, options.batch_size, _LATENCY_LENGTHS)
    _print(latency_report(result), result, options.json)


# ---------------------------------------------------------------- kernels


def _kernel_options(parser: Parser) -> None:
    option = parser.add_argument
    option("--shapes", type=_names, default="135m,1b", metavar="NAMES",
           help="135m, 1b, or OUTPUTSxINPUTS, separated by commas (default: %(default)s)")  # fmt: skip
    option("--formats", type=_names, default="Q8_0,Q4_0,Q4_K,Q6_K,BF16", metavar="NAMES",
           help="of the weights (default: %(default)s)")  # fmt: skip
    option("--rows", type=_numbers, default="1,8,32,64,512", metavar="NUMBERS",
           help="rows of activations (default: %(default)s)")  # fmt: skip
    option("--kinds", type=_names, default=(), metavar="NAMES",
           help="products, attention, rows, sampling (default: all)")  # fmt: skip
    option("--kv-cache-dtype", default="bf16", metavar="TYPE", help="of attention's pages (default: %(default)s)")
    option("--rounds", type=int, default=5, metavar="N", help="of loop and kernel (default: %(default)s)")
    option("--threads", "-t", type=int, metavar="N", help="worker threads (default: physical cores)")
    option("--isa", metavar="LEVEL", help="a lower instruction-set level than the machine's")
    _add_json(option)


def _measure_each_kernel(options: argparse.Namespace) -> None:
    from octavo.bench import kernels
    from octavo.bench.report import write_json

    choice = kernels.Choice(options.kinds or kernels.KINDS, options.shapes, options.formats, options.rows,
                            options.kv_cache_dtype)  # fmt: skip
    shown = options.json != "-"
    if shown:
        print(kernels.HEAD, flush=True)
    show = (lambda measured: print(kernels.line(measured), flush=True)) if shown else None
    result = kernels.measure_all(choice, rounds=options.rounds, threads=options.threads, isa=options.isa, show=show)
    if shown:
        print(kernels.heading(result))
    if options.json is not None:
        write_json(result, options.json)


# ---------------------------------------------------------------- profile


def _profile_options(parser: Parser) -> None:
    add_engine_options(parser)
    option = parser.add_argument_group("profile").add_argument
    option("--batch-size", type=int, default=8, help="rows of the decode step (default: %(default)s)")
    option("--context-len", type=length, default=256, metavar="N",
           help="context of the rows that decode (default: %(default)s)")  # fmt: skip
    option("--input-len", type=length, default=512, metavar="N", help="tokens of the prompt (default: %(default)s)")
    option("--num-iters", type=int, default=20, metavar="N", help="steps of each kind (default: %(default)s)")
    option("--no-fusion", action="store_true", help="also time programs without each fusion, and without any")
    option("--instructions", action="store_true", help="a line for every layer's instruction")
    option("--trace", metavar="FILE", help="write some steps as a trace for a browser's tracing page (Perfetto, "
           "chrome://tracing)")  # fmt: skip
    _add_json(option)


def _profile(options: argparse.Namespace) -> None:
    from octavo.bench import profile
    from octavo.bench.profile_report import report
    from octavo.bench.report import check_writable, write_json

    check_writable(options.trace)
    _refuse(options, {"max_num_seqs": "--batch-size says how many rows there are",
                      "max_num_batched_tokens": "--input-len says how many tokens a step has",
                      "kv_memory_bytes": "there are as many KV pages as the rows need",
                      "gpu_memory_utilization": "there are as many KV pages as the rows need",
                      "enable_prefix_caching": "there is no scheduler and no cache",
                      "seed": "nothing is sampled",
                      "chat_template": "no text is read",
                      "tokenizer": "no text is read"})  # fmt: skip
    steps = [
        profile.Step("decode", options.batch_size, 1, options.context_len),
        profile.Step("prompt", 1, options.input_len, options.input_len),
    ]
    args = engine_args(options)
    result, events = profile.measure(args, steps, repeat=options.num_iters, fusions=options.no_fusion)
    _print(report(result, every=options.instructions), result, options.json)
    if options.trace is not None:
        write_json(profile.trace(events), options.trace)


# ---------------------------------------------------------------- startup


def _startup_options(parser: Parser) -> None:
    add_model(parser)
    option = parser.add_argument
    option("--num-iters", type=int, default=5, metavar="N", help="starts; medians are reported (default: %(default)s)")
    option("--threads", "-t", type=int, metavar="N", help="worker threads (default: physical cores)")
    option("--serve-options", default="", metavar="TEXT", help='more of `octavo serve`, as in "--max-model-len 4096"')
    option("--timeout", type=float, default=300.0, metavar="SECONDS", help="of one start (default: %(default)s)")
    _add_json(option)


def _startup(options: argparse.Namespace) -> None:
    from octavo.bench.startup import measure, report

    model = one_model(options)
    try:
        given = shlex.split(options.serve_options)
    except ValueError as error:
        raise ConfigError(f"--serve-options {options.serve_options!r} cannot be split into words: {error}.") from error
    threads = [] if options.threads is None else ["--threads", str(options.threads)]
    result = measure(model, [*given, *threads], rounds=options.num_iters, timeout_s=options.timeout)
    _print(report(result), result, options.json)


KINDS = {
    "throughput": Kind("tokens per second over many prompts", _throughput_options, _throughput),
    "latency": Kind("seconds of a batch of requests", _latency_options, _latency),
    "kernels": Kind("each kernel beside the limits of the machine", _kernel_options, _measure_each_kernel),
    "profile": Kind("the time of a step by instruction, and what fusions pay", _profile_options, _profile),
    "startup": Kind("seconds from the command to ready and to the first token", _startup_options, _startup),
}
