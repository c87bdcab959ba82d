"""One command for the demo model: tokenizer, training, weights in Hugging Face's layout, GGUF, test, model card.

Run: python -m tools.train_demo.run --out build/train_demo [--publish octavo/demo]
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch

from tools.train_demo.card import Facts, model_card, question_lines
from tools.train_demo.check_split import check_split, taught_dialogues
from tools.train_demo.corpus import test_set
from tools.train_demo.evaluate import evaluate, restored
from tools.train_demo.export import NAME, read_gguf, write_gguf, write_hugging_face
from tools.train_demo.model import DemoModel
from tools.train_demo.recipe import QUESTIONS_PER_CATEGORY, TOKENIZER_DIALOGUES, TOKENIZER_SEED, DemoConfig, Recipe
from tools.train_demo.tokenizer import load_tokenizer, train_tokenizer
from tools.train_demo.train import run, trained_seconds


def finish(out: Path, recipe: Recipe, cfg: DemoConfig, model: DemoModel, note: str) -> None:
    """Write the files of a trained model, then test the GGUF's own weights and write the card."""
    tok = load_tokenizer(out / "tokenizer.json")
    weights = {n: t.detach().float().contiguous() for n, t in model.state_dict().items()}
    write_hugging_face(out / "hf", weights, cfg, tok)
    path = out / f"{NAME}.gguf"
    write_gguf(path, weights, cfg, tok)
    shipped = read_gguf(path, cfg)
    for name, w in weights.items():
        if (w - shipped[name]).abs().max() > w.abs().max() / 127:
            raise ValueError(f"{name} does not survive the GGUF")
    torch.set_num_threads(1)  # as in training: two threads are slower on a busy machine
    outcomes = evaluate(restored(DemoModel(cfg), shipped), tok, test_set(QUESTIONS_PER_CATEGORY))
    facts = Facts(
        parameters=sum(p.numel() for p in model.parameters()),
        size_bytes=path.stat().st_size,
        time=f"{trained_seconds(out) / 60:.0f} minutes of a shared machine of two cores",
        note=note,
    )
    card = model_card(outcomes, cfg, recipe, facts)
    (out / "MODEL_CARD.md").write_text(card)
    (out / "questions.jsonl").write_text(question_lines(outcomes))
    print(card)


def main() -> None:
    """Parse the command line and run the stages; a run that was interrupted goes on from its last checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/train_demo"), help="working folder")
    parser.add_argument("--publish", type=Path, help="copy the GGUF, the card and the questions to this folder")
    parser.add_argument("--note", default="", help="a remark on how the weights were made, for the model card")
    parser.add_argument("--skip-split-check", action="store_true", help="do not read all training dialogues again")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    cfg, recipe = DemoConfig(), Recipe()
    if not args.skip_split_check:
        count = check_split(taught_dialogues(recipe), test_set(QUESTIONS_PER_CATEGORY))
        print(f"{count} dialogues to teach, none overlaps the test set", flush=True)
    path = args.out / "tokenizer.json"
    if not path.exists():
        train_tokenizer(cfg.vocab_size, TOKENIZER_DIALOGUES, TOKENIZER_SEED).save(str(path))
    finish(args.out, recipe, cfg, run(args.out, recipe, cfg), args.note)
    if args.publish:
        args.publish.mkdir(parents=True, exist_ok=True)
        for name in (f"{NAME}.gguf", "MODEL_CARD.md", "questions.jsonl"):
            shutil.copyfile(args.out / name, args.publish / name)


if __name__ == "__main__":
    main()
