"""One command for the demo model: tokenizer, training, weights in Hugging Face's layout, GGUF, test, model card."""

from __future__ import annotations

import argparse
from pathlib import Path

from tools.train_demo.model import DemoConfig
from tools.train_demo.tokenizer import train_tokenizer
from tools.train_demo.train import Recipe, run


def main() -> None:
    """Parse the command line and run the stages; each finished stage is kept in the output folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/train_demo"), help="working folder")
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--decay", type=int, default=Recipe.decay)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    cfg, recipe = DemoConfig(), Recipe(steps=args.steps, decay=args.decay)
    path = args.out / "tokenizer.json"
    if not path.exists():
        train_tokenizer(cfg.vocab_size, dialogues=60_000, seed=1).save(str(path))
    run(args.out, recipe, cfg)


if __name__ == "__main__":
    main()
