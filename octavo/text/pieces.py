"""How vocabulary entries become bytes.

Owns the byte-level alphabet, the `<0xNN>` byte tokens and the reading of a tokenizer.json decoder into a
`PieceRule`. Knows nothing of encoding. Sources: the GPT-2 byte alphabet; SentencePiece's byte fallback; the decoders
of the `tokenizers` package.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

SPACE_MARK = "\u2581"
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>\Z")


def _byte_alphabet() -> dict[str, int]:
    """The 256 printable characters that byte-level BPE writes bytes with: character -> byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {chr(byte): byte for byte in printable}
    rest = (byte for byte in range(256) if chr(byte) not in alphabet)
    return alphabet | {chr(0x100 + i): byte for i, byte in enumerate(rest)}


CHAR_TO_BYTE: Mapping[str, int] = _byte_alphabet()
BYTE_TO_CHAR: tuple[str, ...] = tuple(char for char, _ in sorted(CHAR_TO_BYTE.items(), key=lambda item: item[1]))


def byte_of_token(piece: str) -> int | None:
    """The byte that a `<0xNN>` token stands for, or None for any other token."""
    match = _BYTE_TOKEN.match(piece)
    return int(match[1], 16) if match else None


@dataclass(frozen=True)
class PieceRule:
    """How the entries of one vocabulary become bytes; text is their concatenation.

    `leading_spaces` is how many spaces are removed, once, at the very start of a text (SentencePiece's prefix).
    """

    byte_level: bool = False
    byte_fallback: bool = False
    replacements: tuple[tuple[str, str], ...] = ()
    leading_spaces: int = 0

    def encoder(self) -> Callable[[str], bytes]:
        """A function from an ordinary (not added) entry's text to its bytes."""
        return _byte_level_bytes if self.byte_level else self._plain_bytes

    def _plain_bytes(self, piece: str) -> bytes:
        if self.byte_fallback and len(piece) == 6 and (byte := byte_of_token(piece)) is not None:
            return bytes((byte,))
        return self.literal_bytes(piece)

    def literal_bytes(self, content: str) -> bytes:
        """The bytes of an added token, whose text stands for itself (only space marks are replaced)."""
        for old, new in self.replacements:
            content = content.replace(old, new)
        return content.encode("utf-8", "surrogateescape")


def _byte_level_bytes(piece: str) -> bytes:
    try:
        return bytes(map(CHAR_TO_BYTE.__getitem__, piece))
    except KeyError:  # not written in the alphabet: the token is its own text, as the originals have it
        return piece.encode("utf-8", "surrogateescape")


SENTENCEPIECE_RULE = PieceRule(byte_fallback=True, replacements=((SPACE_MARK, " "),))
BYTE_LEVEL_RULE = PieceRule(byte_level=True)


class NotConcatenativeError(ValueError):
    """The decoder joins tokens by more than putting their bytes side by side; the message names it."""


def rule_from_decoder(decoder: Mapping[str, Any] | None) -> PieceRule:
    """Read the `decoder` of a tokenizer.json. Raises NotConcatenativeError for WordPiece and the like."""
    if decoder is None:
        raise NotConcatenativeError("a missing decoder (tokens joined by spaces)")
    rule = _Draft()
    for step in _flatten([decoder]):
        rule.add(step)
    return PieceRule(rule.byte_level, rule.byte_fallback, tuple(rule.replacements), rule.leading_spaces)


def _flatten(steps: Iterable[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    for step in steps:
        if step.get("type") == "Sequence":
            yield from _flatten(step["decoders"])
        else:
            yield step


class _Draft:
    """A PieceRule while the decoder's steps are read in order."""

    def __init__(self) -> None:
        self.byte_level = False
        self.byte_fallback = False
        self.replacements: list[tuple[str, str]] = []
        self.leading_spaces = 0

    def add(self, step: Mapping[str, Any]) -> None:
        match step.get("type"):
            case "ByteLevel":
                self.byte_level = True
            case "ByteFallback":
                self.byte_fallback = True
            case "Fuse":
                pass
            case "Replace" if isinstance(old := step.get("pattern", {}).get("String"), str):
                self.replacements.append((old, step["content"]))
            case "Strip" if step.get("content") == " " and not step.get("stop"):
                self.leading_spaces += int(step.get("start", 0))
            case "Metaspace":
                self.replacements.append((step.get("replacement", SPACE_MARK), " "))
                if step.get("prepend_scheme", "always") != "never" and step.get("add_prefix_space", True):
                    self.leading_spaces += 1
            case kind:
                raise NotConcatenativeError(f"the decoder {kind!r}")
