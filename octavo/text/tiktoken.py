"""Rank files: byte-level BPE as base64 lines with ranks (the `tokenizer.model` of Meta's Llama 3 releases).

Owns the file format and the special tokens that such files leave out. A rank file says neither how text is split nor
which special tokens exist: the caller must know.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path

import tokenizers

from octavo.base.errors import ModelFormatError
from octavo.text import bpe
from octavo.text.pieces import BYTE_LEVEL_RULE, BYTE_TO_CHAR
from octavo.text.splits import SplitRule
from octavo.text.tokenizer import AddedToken, Vocabulary

# Llama 3: 256 special tokens after the ranks, these at their places and numbered reserved ones elsewhere.
_LLAMA3_NAMED = {
    0: "<|begin_of_text|>",
    1: "<|end_of_text|>",
    4: "<|finetune_right_pad_id|>",
    5: "<|step_id|>",
    6: "<|start_header_id|>",
    7: "<|end_header_id|>",
    8: "<|eom_id|>",
    9: "<|eot_id|>",
    10: "<|python_tag|>",
}


def llama3_specials(first: int) -> dict[str, int]:
    """The 256 special tokens of Llama 3.1 and later, from id `first` on."""
    names: dict[str, int] = {}
    reserved = 0
    for place in range(256):
        name = _LLAMA3_NAMED.get(place)
        if name is None:
            name, reserved = f"<|reserved_special_token_{reserved}|>", reserved + 1
        names[name] = first + place
    return names


def is_rank_file(path: Path) -> bool:
    """Whether the file begins with a line of a rank file (and not with a SentencePiece protobuf)."""
    with path.open("rb") as file:
        head = file.read(256).split(b"\n", 1)[0].split()
    return len(head) == 2 and head[1].isdigit() and _decoded(head[0]) is not None


def read_ranks(path: Path) -> dict[bytes, int]:
    """Read the lines "base64 rank". Raises ModelFormatError naming the first bad line."""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line:
            continue
        token, _, rank = line.partition(b" ")
        data = _decoded(token)
        if data is None or not rank.isdigit():
            raise ModelFormatError(path, f"line {number} is not a base64 token and its rank")
        ranks[data] = int(rank)
    if len(set(ranks.values())) != len(ranks) or not ranks:
        raise ModelFormatError(path, "its ranks are not distinct, or there are none")
    return ranks


def _decoded(token: bytes) -> bytes | None:
    try:
        return base64.b64decode(token, validate=True)
    except binascii.Error:
        return None


def build(
    ranks: Mapping[bytes, int], split: SplitRule, specials: Mapping[str, int]
) -> tuple[tokenizers.Tokenizer, Vocabulary]:
    """A byte-level backend and its table. A rank is a token's id, and merging goes by the lowest rank formed."""
    vocab = {"".join(map(BYTE_TO_CHAR.__getitem__, token)): rank for token, rank in ranks.items()}
    merges = bpe.merges_from_scores({text: -rank for text, rank in vocab.items()})
    backend = bpe.byte_level_backend({**vocab, **specials}, merges, split)
    backend.add_tokens([tokenizers.AddedToken(text, normalized=False, special=True) for text in specials])
    size = 1 + max([*vocab.values(), *specials.values()])
    texts = [""] * size
    for text, id in (vocab | dict(specials)).items():
        texts[id] = text
    added = {id: AddedToken(text, True) for text, id in specials.items()}
    return backend, Vocabulary(texts, added, BYTE_LEVEL_RULE)
