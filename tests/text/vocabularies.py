"""Tiny vocabularies for the tests: a byte-level BPE and a SentencePiece one, as GGUF metadata and as files."""

from __future__ import annotations

import struct
from typing import Any

from octavo.text.pieces import BYTE_TO_CHAR

SPACE = "\u2581"
NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


def byte_level_metadata(**changes: Any) -> dict[str, Any]:
    """256 bytes, some merges (two of them across a character's bytes), three special tokens, one user-defined."""
    euro, smile = (["".join(BYTE_TO_CHAR[b] for b in c.encode())] for c in "€😀")
    merges = ["h e", "l l", "he ll", "hell o", "Ġ w", "1 2", "12 3"]
    merges += [f"{euro[0][0]} {euro[0][1]}", f"{smile[0][2]} {smile[0][3]}"]
    tokens = [*BYTE_TO_CHAR, *(merge.replace(" ", "") for merge in merges)]
    kinds = [NORMAL] * len(tokens)
    tokens += ["<|bos|>", "<|eot_id|>", "<|end_of_text|>", "<think>"]
    kinds += [CONTROL, CONTROL, CONTROL, USER]
    metadata: dict[str, Any] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": tokens.index("<|bos|>"),
        "tokenizer.ggml.eos_token_id": tokens.index("<|end_of_text|>"),
    }
    return _changed(metadata, changes)


def sentencepiece_pieces() -> list[tuple[str, float, int]]:
    """(piece, score, kind): unknown, BOS, EOS, a user-defined run of spaces, 256 bytes and a few pieces."""
    pieces = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL), (SPACE * 4, 0.0, USER)]
    pieces += [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]
    texts = [f"{SPACE}the", "the", "he", "th", f"{SPACE}t", f"{SPACE}c", "at", SPACE * 2, SPACE, *"thecaé漢"]
    return pieces + [(text, -float(rank), NORMAL) for rank, text in enumerate(texts, 1)]


def sentencepiece_metadata(**changes: Any) -> dict[str, Any]:
    """The same pieces as a GGUF file of model "llama" has them."""
    pieces = sentencepiece_pieces()
    metadata: dict[str, Any] = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [piece for piece, _, _ in pieces],
        "tokenizer.ggml.scores": [score for _, score, _ in pieces],
        "tokenizer.ggml.token_type": [kind for _, _, kind in pieces],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }
    return _changed(metadata, changes)


def _changed(metadata: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`changes` by the key's last part; None takes the key away."""
    for name, value in changes.items():
        metadata[f"tokenizer.ggml.{name}"] = value
    return {key: value for key, value in metadata.items() if value is not None}


def _varint(value: int) -> bytes:
    out = bytearray()
    value &= (1 << 64) - 1
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, value: int | float | bytes) -> bytes:
    if isinstance(value, float):
        return _varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def sentencepiece_file(
    pieces: list[tuple[str, float, int]], *, trainer: dict[int, Any], normalizer: dict[int, Any]
) -> bytes:
    """A `tokenizer.model`; `trainer` and `normalizer` map field numbers to values."""
    data = b""
    for text, score, kind in pieces:
        data += _field(1, _field(1, text.encode()) + _field(2, score) + _field(3, kind))
    data += _field(2, b"".join(_field(number, value) for number, value in trainer.items()))
    return data + _field(3, b"".join(_field(number, value) for number, value in normalizer.items()))
