"""`octavo generate`: complete prompts (not chat) from the command line, a file, or standard input."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from octavo.base.errors import ConfigError
from octavo.cli.options import add_engine_options, add_sampling_options, engine_args, sampling_fields


def add_options(parser: argparse.ArgumentParser) -> None:
    add_engine_options(parser)
    add_sampling_options(parser)
    option = parser.add_argument_group("prompts").add_argument
    option("--prompt", "-p", action="append", metavar="TEXT", help="a prompt (repeatable)")
    option("--prompt-file", type=Path, metavar="FILE", help="one prompt a line; blank lines are skipped")
    option("--json", action="store_true", help="one JSON object a line: prompt, text, token_ids, finish_reason")


def run(options: argparse.Namespace) -> int:
    prompts = _prompts(options)
    args = engine_args(options)
    from octavo.base.sampling import SamplingParams
    from octavo.llm import LLM

    with LLM(engine_args=args) as llm:
        sampling = SamplingParams(**{**llm.get_default_sampling_fields(), **sampling_fields(options)})
        outputs = llm.generate(prompts, sampling, use_tqdm=len(prompts) > 1 and sys.stderr.isatty())
    for output in outputs:
        best = output.outputs[0]
        if options.json:
            import orjson

            record = {
                "prompt": output.prompt,
                "text": best.text,
                "token_ids": best.token_ids,
                "finish_reason": best.finish_reason,
            }
            print(orjson.dumps(record).decode())
        else:
            print(f"{output.prompt}{best.text}")
    return 0


def _prompts(options: argparse.Namespace) -> list[str]:
    prompts = list(options.prompt or ())
    if options.prompt_file is not None:
        try:
            prompts += [line for line in options.prompt_file.read_text("utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"Cannot read the prompts: {options.prompt_file}: {error}.") from error
    if not prompts and not sys.stdin.isatty():
        prompts = [sys.stdin.read().removesuffix("\n")]
    if not prompts or not all(prompts):
        raise ConfigError("No prompt: give --prompt TEXT, --prompt-file FILE, or pipe one in.")
    return prompts
