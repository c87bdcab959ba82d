"""The `octavo` command. One module per command; each imports what it needs only when it runs."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from octavo import __version__

COMMANDS = {
    "serve": "answer over HTTP: OpenAI's, Anthropic's, TGI's, Ollama's and llama.cpp's APIs and a chat page",
    "run": "chat in the terminal, or answer one prompt",
    "generate": "complete prompts from arguments, a file or standard input",
    "plan": "print the memory a model will take",
    "bench": "measure throughput, latency, kernels and start-up beside the limits of the machine",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status. Errors that a user can cause are one line on stderr."""
    from octavo.base.errors import OctavoError

    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="octavo", description="Serves large language models on a CPU or a GPU.")
    parser.add_argument("--version", action="version", version=f"octavo {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name in given[:1]:  # options are only built for the command that runs: --help must not feel slow
            importlib.import_module(f"octavo.cli.{name}").add_options(command)
    if not given:
        parser.print_help()
        return 0
    options = parser.parse_args(given)
    try:
        status: int = importlib.import_module(f"octavo.cli.{options.command}").run(options)
        return status
    except OctavoError as error:
        print(f"octavo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 141
