"""SentencePiece models: the `tokenizer.model` file, and the pieces that GGUF stores of it.

Owns the reading of the protobuf (only the fields that matter) and the translation of pieces, scores and kinds into a
backend of the `tokenizers` package. Source: sentencepiece_model.proto.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path

import tokenizers
from tokenizers import normalizers, pre_tokenizers

from octavo.base.errors import ModelFormatError, UnsupportedModelError
from octavo.text import bpe
from octavo.text.pieces import SENTENCEPIECE_RULE, SPACE_MARK
from octavo.text.tokenizer import AddedToken, Vocabulary


class Kind(IntEnum):
    """What a piece is; GGUF's token types have the same numbers."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class PieceModel:
    """Pieces with scores and kinds, and how text is prepared before they are matched.

    `prefix`: a space is put before the text; `prefix_each`: also after every special token (the older behaviour).
    `trim_right_of_specials`: spaces after a special token are dropped (Phi-3). `appended`: added tokens of the folder,
    with the ids after the pieces.
    """

    pieces: Sequence[str]
    scores: Sequence[float]
    kinds: Sequence[int]
    unigram: bool = False
    prefix: bool = True
    prefix_each: bool = True
    collapse_spaces: bool = False
    charsmap: bytes = b""
    bos_id: int | None = None
    eos_id: int | None = None
    trim_right_of_specials: bool = False
    appended: Sequence[tokenizers.AddedToken] = ()


def build(model: PieceModel) -> tuple[tokenizers.Tokenizer, Vocabulary]:
    """A backend without BOS and EOS rules, and its id table. Raises ValueError for inconsistent pieces."""
    backend = _unigram(model) if model.unigram else _bpe(model)
    tokens = {id: _added(model, id) for id, kind in enumerate(model.kinds) if kind in _OUTSIDE_TEXT}
    tokens |= dict(enumerate(model.appended, len(model.pieces)))
    backend.add_tokens(list(tokens.values()))
    table = {id: AddedToken(token.content, token.special) for id, token in tokens.items()}
    texts = [*model.pieces, *(token.content for token in model.appended)]
    leading_spaces = sys.maxsize if model.collapse_spaces else int(model.prefix)
    return backend, Vocabulary(texts, table, replace(SENTENCEPIECE_RULE, leading_spaces=leading_spaces))


_OUTSIDE_TEXT = frozenset((Kind.UNKNOWN, Kind.CONTROL, Kind.USER_DEFINED))


def _added(model: PieceModel, id: int) -> tokenizers.AddedToken:
    special = model.kinds[id] != Kind.USER_DEFINED
    content = model.pieces[id].replace(SPACE_MARK, " ")
    trim = model.trim_right_of_specials and content not in ("<unk>", "<s>", "<|endoftext|>")
    return tokenizers.AddedToken(content, normalized=False, special=special, rstrip=trim)


def _bpe(model: PieceModel) -> tokenizers.Tokenizer:
    vocab = {piece: id for id, piece in enumerate(model.pieces)}
    # User-defined pieces are matched in raw text, which has spaces where pieces have marks: both name the id.
    marked = (id for id, kind in enumerate(model.kinds) if kind == Kind.USER_DEFINED)
    vocab |= {model.pieces[id].replace(SPACE_MARK, " "): id for id in marked}
    vocab |= {token.content: id for id, token in enumerate(model.appended, len(model.pieces))}
    scores = {
        piece: score
        for piece, score, kind in zip(model.pieces, model.scores, model.kinds, strict=True)
        if kind == Kind.NORMAL
    }
    steps = _text_steps(model)
    pre_tokenizer = None
    if model.prefix and not model.prefix_each:
        pre_tokenizer = pre_tokenizers.Metaspace(SPACE_MARK, prepend_scheme="first", split=False)
    else:
        steps.append(bpe.spaces_to_marks(prefix=model.prefix))
    return bpe.sentencepiece_bpe_backend(
        vocab,
        bpe.merges_from_scores(scores),
        unknown=next((p for p, k in zip(model.pieces, model.kinds, strict=True) if k == Kind.UNKNOWN), None),
        byte_fallback=Kind.BYTE in model.kinds,
        normalizer=normalizers.Sequence(steps),
        pre_tokenizer=pre_tokenizer,
    )


def _unigram(model: PieceModel) -> tokenizers.Tokenizer:
    unknown = next((id for id, kind in enumerate(model.kinds) if kind == Kind.UNKNOWN), None)
    if unknown is None:
        raise ValueError("a unigram vocabulary needs an unknown piece")
    steps = [*_text_steps(model), bpe.spaces_to_marks(prefix=model.prefix)]
    return bpe.unigram_backend(
        [*zip(model.pieces, model.scores, strict=True), *((token.content, 0.0) for token in model.appended)],
        unknown_id=unknown,
        byte_fallback=Kind.BYTE in model.kinds,
        normalizer=normalizers.Sequence(steps),
        pre_tokenizer=pre_tokenizers.Metaspace(SPACE_MARK, prepend_scheme="never", split=True),
    )


def _text_steps(model: PieceModel) -> list[normalizers.Normalizer]:
    steps: list[normalizers.Normalizer] = []
    if model.charsmap:
        steps.append(normalizers.Precompiled(model.charsmap))
    if model.collapse_spaces:
        # Only spaces go, no other whitespace; at the end also a mark that stood in the text.
        steps.append(normalizers.Replace(tokenizers.Regex(rf"\A +|[ {SPACE_MARK}]+\z"), ""))
        steps.append(normalizers.Replace(tokenizers.Regex(" {2,}"), " "))
    return steps


def read_model(path: Path) -> PieceModel:
    """Read a SentencePiece `tokenizer.model`.

    Raises ModelFormatError when it is not one, UnsupportedModelError for its word and character kinds.
    """
    try:
        return _parse(path.read_bytes())
    except (_WireError, struct.error, UnicodeDecodeError) as error:
        raise ModelFormatError(path, f"not a SentencePiece model ({error})") from None


class _WireError(ValueError):
    """The bytes are not a protobuf message."""


_FieldValue = int | bytes
_VARINT, _I64, _BYTES, _I32 = 0, 1, 2, 5


def _fields(data: bytes) -> Iterator[tuple[int, _FieldValue]]:
    """The (number, value) pairs of a protobuf message; fixed-width values come as bytes."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        wire = key & 7
        value: _FieldValue
        if wire == _VARINT:
            value, at = _varint(data, at)
        else:
            if wire == _BYTES:
                size, at = _varint(data, at)
            elif wire in (_I32, _I64):
                size = 4 if wire == _I32 else 8
            else:
                raise _WireError(f"wire type {wire} at byte {at}")
            if size > end - at:
                raise _WireError(f"a field of {size} bytes ends after the file")
            value, at = data[at : at + size], at + size
        yield key >> 3, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise _WireError("the file ends inside a number")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7


def _bytes(value: _FieldValue) -> bytes:
    if not isinstance(value, bytes):
        raise _WireError("a number where text should be")
    return value


def _id(value: _FieldValue | None, default: int) -> int | None:
    """A special piece's id: an int32 of which -1 means none."""
    number = default if value is None else int(value)
    return number if 0 <= number < 1 << 31 else None


def _parse(data: bytes) -> PieceModel:
    pieces: list[str] = []
    scores: list[float] = []
    kinds: list[int] = []
    trainer: dict[int, _FieldValue] = {}
    normalizer: dict[int, _FieldValue] = {}
    for number, value in _fields(data):
        if number == 1:
            entry = dict(_fields(_bytes(value)))
            pieces.append(_bytes(entry.get(1, b"")).decode("utf-8"))
            scores.append(struct.unpack("<f", _bytes(entry.get(2, b"\0\0\0\0")))[0])
            kinds.append(int(entry.get(3, Kind.NORMAL)))
        elif number == 2:
            trainer = dict(_fields(_bytes(value)))
        elif number == 3:
            normalizer = dict(_fields(_bytes(value)))
    if not pieces:
        raise _WireError("it has no pieces")
    unigram = _check_kind(trainer, normalizer)
    return PieceModel(
        pieces,
        scores,
        kinds,
        unigram=unigram,
        prefix=bool(normalizer.get(3, 1)),
        collapse_spaces=bool(normalizer.get(4, 1)),
        charsmap=_bytes(normalizer.get(2, b"")),
        bos_id=_id(trainer.get(41), 1),
        eos_id=_id(trainer.get(42), 2),
    )


_MODEL_KINDS = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}


def _check_kind(trainer: dict[int, _FieldValue], normalizer: dict[int, _FieldValue]) -> bool:
    """Whether the model is unigram; refuses what cannot be expressed."""
    number = int(trainer.get(3, 1))
    kind = _MODEL_KINDS.get(number, f"number {number}")
    if kind not in ("unigram", "bpe"):
        raise UnsupportedModelError(f"SentencePiece models of kind {kind!r} are not supported; bpe and unigram are.")
    if trainer.get(24):
        raise UnsupportedModelError("SentencePiece models that treat spaces as suffixes are not supported.")
    if not normalizer.get(5, 1):
        raise UnsupportedModelError("SentencePiece models that do not escape spaces are not supported.")
    return kind == "unigram"
