"""python -m tools.make_model SHAPE FORMAT [--kind gguf|hf] [--out PATH] [--seed N]: prints where the model is."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.make_model.cache import cached_model, model_path
from tools.make_model.folder import DTYPES
from tools.make_model.gguf import CHOICES
from tools.make_model.shapes import SHAPES


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.make_model", description=__doc__)
    parser.add_argument("shape", choices=sorted(SHAPES))
    parser.add_argument("format", choices=CHOICES)
    parser.add_argument("--kind", choices=("gguf", "hf"), default="gguf", help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, help="file or folder to write (default: in the user's cache folder)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights (default: %(default)s)")
    parser.add_argument("--force", action="store_true", help="make it again if it is there")
    options = parser.parse_args(arguments)
    if options.kind == "hf" and options.format not in DTYPES:
        parser.error(f"a Hugging Face folder has {', '.join(DTYPES)}, not {options.format}")
    path = options.out or model_path(options.shape, options.format, options.kind, options.seed)
    print(cached_model(options.shape, options.format, options.kind, options.seed, out=path, force=options.force))
    return 0


if __name__ == "__main__":
    sys.exit(main())
