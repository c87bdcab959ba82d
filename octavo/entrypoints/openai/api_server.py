"""`python -m octavo.entrypoints.openai.api_server --model M`: `octavo serve` with the model as an option."""

from __future__ import annotations

import sys

from octavo.cli import main

if __name__ == "__main__":
    raise SystemExit(main(["serve", *sys.argv[1:]]))
