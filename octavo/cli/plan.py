"""`octavo plan`: what a model will take of this machine's memory, computed without loading it."""

from __future__ import annotations

import argparse
import dataclasses

from octavo.cli.options import add_engine_options, engine_args, length


def add_options(parser: argparse.ArgumentParser) -> None:
    add_engine_options(parser)
    parser.add_argument("--users-at", type=length, action="append", metavar="TOKENS",
                        help="also print how many users of this length fit (repeatable)")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")


def run(options: argparse.Namespace) -> int:
    from octavo.runner.memory import describe
    from octavo.wiring import plan_memory

    plan = plan_memory(engine_args(options))
    if options.json:
        import orjson

        fields = dataclasses.asdict(plan) | {
            "kv_bytes": plan.kv_bytes,
            "model_bytes": plan.model_bytes,
            "total_bytes": plan.total_bytes,
            "tokens_that_fit": plan.tokens_that_fit,
            "users_at": {str(n): plan.users_at(n) for n in options.users_at or ()},
        }
        print(orjson.dumps(fields, option=orjson.OPT_INDENT_2).decode())
    else:
        print(describe(plan, tuple(options.users_at or ())))
    return 0
