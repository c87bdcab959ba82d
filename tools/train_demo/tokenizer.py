"""The byte-level BPE of the demo model: trained on generated text, split as llama.cpp's `smollm` rule splits.

That rule: every digit alone, then GPT-2's words; a GGUF reader that knows the name reproduces it exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from tools.train_demo.corpus import training
from tools.train_demo.dialogue import Dialogue
from tools.train_demo.recipe import shares_at
from tools.train_demo.template import END_OF_TEXT, IM_END, IM_START, pieces

SPECIALS = (END_OF_TEXT, IM_START, IM_END)
PRE_NAME = "smollm"
Example = tuple[list[int], list[bool]]


def train_tokenizer(vocab_size: int, dialogues: int, seed: int) -> Tokenizer:
    """A tokenizer of exactly `vocab_size` entries, the special tokens first."""
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(t, special=True, normalized=False) for t in SPECIALS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tok.train_from_iterator(_texts(islice(training(seed, shares_at(0)), dialogues)), trainer)
    if tok.get_vocab_size() != vocab_size:
        raise ValueError(f"the corpus gave {tok.get_vocab_size()} entries, not {vocab_size}; generate more dialogues")
    return tok


def _texts(dialogues: Iterator[Dialogue]) -> Iterator[str]:
    for dialogue in dialogues:
        text = "".join(piece for piece, _ in pieces(dialogue))
        for special in SPECIALS:
            text = text.replace(special, "\n")
        yield text


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer.json of a finished run."""
    return Tokenizer.from_file(str(path))


def encode(tok: Tokenizer, dialogues: list[Dialogue]) -> list[Example]:
    """Token ids of each dialogue, and for each token whether it is taught."""
    cut = [pieces(d) for d in dialogues]
    encoded = iter(tok.encode_batch([text for parts in cut for text, _ in parts], add_special_tokens=False))
    out: list[Example] = []
    for parts in cut:
        ids: list[int] = []
        taught: list[bool] = []
        for _, is_taught in parts:
            piece = next(encoded).ids
            ids += piece
            taught += [is_taught] * len(piece)
        out.append((ids, taught))
    return out
