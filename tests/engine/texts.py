"""A tokenizer of fifty short pieces, bytes of split characters among them, for frontend tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from octavo.text.tokenizer import Tokenizer

EOS = 0
SPECIAL = 1
PIECES: list[bytes] = [b"</s>", b"<tool>", *[bytes([97 + i]) for i in range(26)], b" ", b"\n", b"ab", b"cd", b"xyz",
                       *[bytes([b]) for b in "é→😀".encode()]]  # fmt: skip
PIECES += [b" " + bytes([97 + i]) for i in range(50 - len(PIECES))]


class PieceTokenizer:
    """Has what the frontend and the detokenizer ask of a tokenizer."""

    vocab_size = len(PIECES)
    special_ids = frozenset({EOS, SPECIAL})
    added_ids = special_ids
    leading_spaces = 0

    def id_bytes(self) -> list[bytes]:
        return PIECES

    def token_text(self, id: int) -> str:
        return PIECES[id].decode("utf-8", "surrogateescape")

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Greedy by length."""
        data, ids = text.encode(), []
        while data:
            id = max((i for i, piece in enumerate(PIECES) if data.startswith(piece)), key=lambda i: len(PIECES[i]))
            ids.append(id)
            data = data[len(PIECES[id]) :]
        return ids


def tokenizer() -> Tokenizer:
    return cast(Tokenizer, PieceTokenizer())


def ids(text: str) -> tuple[int, ...]:
    return tuple(PieceTokenizer().encode(text))


def text_of(token_ids: Sequence[int]) -> str:
    return b"".join(PIECES[id] for id in token_ids if id not in PieceTokenizer.special_ids).decode("utf-8", "replace")
