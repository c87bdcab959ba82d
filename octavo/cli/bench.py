"""`octavo bench throughput`: tokens per second of one engine over many prompts, in process."""

from __future__ import annotations

import argparse

from octavo.cli.options import add_engine_options, engine_args


def add_options(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    throughput = kinds.add_parser("throughput", help="tokens per second over many prompts")
    add_engine_options(throughput)
    option = throughput.add_argument_group("workload").add_argument
    option("--num-prompts", type=int, default=32, help="requests, all there from the start (default: %(default)s)")
    option("--concurrency", type=int, help="most requests at once (default: all)")
    option("--input-len", type=int, default=128, help="tokens of a prompt (default: %(default)s)")
    option("--output-len", type=int, default=128, help="tokens of an answer (default: %(default)s)")
    option("--repeat", type=int, default=3, help="runs; the median is reported (default: %(default)s)")
    option("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    from octavo.bench.throughput import Workload, measure, report

    workload = Workload(
        num_prompts=options.num_prompts,
        concurrency=options.concurrency or options.num_prompts,
        input_len=options.input_len,
        output_len=options.output_len,
        repeat=options.repeat,
    )
    print(report(measure(engine_args(options), workload), as_json=options.json))
    return 0
