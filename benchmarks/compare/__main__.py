"""python -m benchmarks.compare {setup,models,probe,run,report,all}: Octavo beside its peers, on this machine."""

from __future__ import annotations

import argparse
import os
import sys
import time
from functools import partial
from pathlib import Path

from benchmarks.compare import environments, models, places, probes, processes, report, runner
from benchmarks.compare.plan import Group, groups


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    if options.command in ("setup", "all"):
        environments.make_all(options.names if options.command == "setup" else [])
    if options.command in ("models", "all"):
        models.make_all(options.names if options.command == "models" else [])
    if options.command in ("probe", "run", "all"):
        chosen = _chosen(options)
        processes.adopt_orphans()
        deadline = time.monotonic() + 60 * options.budget if options.budget else None
        if options.command != "run" and not probes.run(options.out, options.threads, deadline, options.patience):
            print("the probes go on where they were cut when asked again", file=sys.stderr)
            return 3
        settings = runner.Options(options.out / "samples.jsonl", options.rounds, options.threads, deadline,
                                  options.patience, partial(probes.settings_for, probes.load(options.out)))  # fmt: skip
        if options.command != "probe":
            report.write_facts(options.out, options.threads)
            if not runner.run(chosen, settings):
                print("cut by the budget; `run` again goes on from here", file=sys.stderr)
                return 3
    if options.command in ("report", "all"):
        report.write(options.out, options.page, options.plot)
    return 0


def _chosen(options: argparse.Namespace) -> list[Group]:
    """Groups whose name has one of the words of --rows, with the contenders of --engines; Octavo is always there."""
    found = []
    for group in groups():
        if options.rows and not any(word in group.name for word in options.rows):
            continue
        contenders = tuple(
            c for c in group.contenders if not options.engines or c.engine in (*options.engines, "octavo")
        )  # fmt: skip
        works = tuple(work for work in group.works if not options.works or work in options.works)
        if contenders and works:
            found.append(Group(group.name, works, contenders, group.rounds, group.repeat, group.served, group.burners))
    return found


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("command", choices=("setup", "models", "probe", "run", "report", "all"))
    option = parser.add_argument
    option("names", nargs="*", help="of setup: what to build; of models: shapes (default: all)")
    option("--rows", nargs="+", metavar="WORD", help="only groups whose name has one of these words")
    option("--works", nargs="+", metavar="NAME", help="only these workloads")
    option("--engines", nargs="+", metavar="NAME", help="only these peers (Octavo is always measured)")
    option("--rounds", type=int, default=3, help="at most (default: %(default)s)")
    option("--budget", type=float, metavar="MINUTES", help="begin no sample after this time; exit code 3 if cut")
    option("--threads", type=int, default=os.cpu_count() or 1, help="of every engine (default: %(default)s)")
    option("--patience", type=float, default=20, help="seconds to wait for a quiet machine (default: %(default)s)")
    option("--out", type=Path, default=places.RESULTS, help="folder of the samples (default: results/compare)")
    option("--page", type=Path, default=places.ROOT / "docs" / "benchmarks.md", help="the report")
    option("--plot", type=Path, default=places.ROOT / "docs" / "images" / "throughput.svg", help="its plot")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
