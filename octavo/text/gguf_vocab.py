"""Tokenizers from the metadata of a GGUF file.

Knows the keys `tokenizer.ggml.*` and their defaults; takes any mapping, so it does not know the container. An unknown
tokenizer model or pre-tokenizer name is an error. Source: the GGUF specification and its reference implementation.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tokenizers

from octavo.base.errors import ModelFormatError, UnsupportedModelError
from octavo.text import bpe, sentencepiece
from octavo.text.pieces import BYTE_LEVEL_RULE
from octavo.text.sentencepiece import Kind, PieceModel
from octavo.text.special import END_MARKERS
from octavo.text.splits import split_rule
from octavo.text.tokenizer import AddedToken, Tokenizer, Vocabulary

_log = logging.getLogger(__name__)
_PREFIX = "tokenizer.ggml."
_CONTROL_BY_TEXT = frozenset(text for text in END_MARKERS if text.startswith(("<|", "<｜", "<end_of")))
_END_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")


def tokenizer_from_gguf(metadata: Mapping[str, Any], path: str = "GGUF") -> Tokenizer:
    """The tokenizer that a GGUF file's metadata describe; `path` is for messages.

    Raises UnsupportedModelError for a tokenizer model or pre-tokenizer that is not known, ModelFormatError for
    metadata that contradict themselves.
    """
    kind = metadata.get(f"{_PREFIX}model")
    build = {"gpt2": _byte_level, "llama": _sentencepiece, "t5": _sentencepiece}.get(str(kind))
    if build is None:
        known = "gpt2, llama and t5 are"
        what = "has no tokenizer" if kind in (None, "none", "no_vocab") else f"tokenizer model {kind!r} is not known"
        raise UnsupportedModelError(f"{path}: the GGUF file's {what}; {known}.")
    try:
        return build(_Keys(metadata, path))
    except ValueError as error:
        raise ModelFormatError(path, f"its vocabulary contradicts itself: {error}") from error


class _Keys:
    """Typed access to the tokenizer's keys."""

    def __init__(self, metadata: Mapping[str, Any], path: str) -> None:
        self._metadata = metadata
        self.path = path
        self.tokens: Sequence[str] = self._required("tokens")
        kinds = self._array("token_type")
        self.kinds: list[int] = list(kinds) if kinds is not None else [Kind.NORMAL] * len(self.tokens)
        if len(self.kinds) != len(self.tokens):
            raise ModelFormatError(path, f"{len(self.tokens)} tokens but {len(self.kinds)} token types")
        if not _CONTROL_BY_TEXT.isdisjoint(self.tokens):
            for id, text in enumerate(self.tokens):
                if text in _CONTROL_BY_TEXT:  # some writers call them ordinary text, and generation would never end
                    self.kinds[id] = Kind.CONTROL

    def _required(self, key: str) -> Sequence[Any]:
        value = self._array(key)
        if value is None:
            raise ModelFormatError(self.path, f"{_PREFIX}{key} is missing")
        return value

    def _array(self, key: str) -> Sequence[Any] | None:
        value = self._metadata.get(_PREFIX + key)
        return value.tolist() if isinstance(value, np.ndarray) else value

    def flag(self, key: str, default: bool) -> bool:
        return bool(self._metadata.get(_PREFIX + key, default))

    def text(self, key: str) -> str | None:
        value = self._metadata.get(_PREFIX + key)
        return None if value is None else str(value)

    def id(self, key: str) -> int | None:
        """A token id, or None when absent or outside the table (writers mark "none" by a huge number)."""
        value = self._metadata.get(_PREFIX + key)
        return int(value) if value is not None and 0 <= int(value) < len(self.tokens) else None

    def merges(self) -> list[bpe.Merge]:
        texts = self._required("merges")
        pairs: list[bpe.Merge] = [tuple(text.split(" ")) for text in texts]
        if all(len(pair) == 2 and pair[0] for pair in pairs):  # nearly always, and worth tens of milliseconds
            return pairs
        return [_merge(text) for text in texts]

    def scores(self) -> list[float]:
        scores = self._required("scores")
        if len(scores) != len(self.tokens):
            raise ModelFormatError(self.path, f"{len(self.tokens)} tokens but {len(scores)} scores")
        return [float(score) for score in scores]

    def charsmap(self) -> bytes:
        value = self._array("precompiled_charsmap")
        return b"" if value is None else bytes(int(byte) & 0xFF for byte in value)

    @property
    def is_phi3(self) -> bool:
        name = str(self._metadata.get("general.name", "")).lower()
        return self._metadata.get("general.architecture") == "phi3" or "phi-3" in name or "phi3" in name


def _merge(text: str) -> bpe.Merge:
    """The two sides of a merge: parted by the first space that is not the first character."""
    at = text.find(" ", 1)
    if at < 0:
        raise ValueError(f"the merge {text!r} has no second part")
    return text[:at], text[at + 1 :]


def _byte_level(keys: _Keys) -> Tokenizer:
    name = keys.text("pre")
    if name is None:
        _log.warning("%s does not name its pre-tokenizer: taking the format's default, as old files expect", keys.path)
        name = "default"
    split = split_rule(name)
    names = _encodable(keys.tokens)
    backend = bpe.byte_level_backend({text: id for id, text in enumerate(names)}, keys.merges(), split)
    added = {
        id: AddedToken(names[id], kind != Kind.USER_DEFINED)
        for id, kind in enumerate(keys.kinds)
        if kind in (Kind.UNKNOWN, Kind.CONTROL, Kind.USER_DEFINED)
    }
    backend.add_tokens([tokenizers.AddedToken(t.content, normalized=False, special=t.special) for t in added.values()])
    vocabulary = Vocabulary(keys.tokens, added, BYTE_LEVEL_RULE)
    return _finish(keys, backend, vocabulary, add_bos=split.add_bos, add_eos=False)


def _sentencepiece(keys: _Keys) -> Tokenizer:
    unigram = keys.text("model") == "t5"
    model = PieceModel(
        _encodable(keys.tokens),
        keys.scores(),
        keys.kinds,
        unigram=unigram,
        prefix=keys.flag("add_space_prefix", True),
        collapse_spaces=keys.flag("remove_extra_whitespaces", False),
        charsmap=keys.charsmap(),
        trim_right_of_specials=keys.is_phi3,
    )
    backend, vocabulary = sentencepiece.build(model)
    return _finish(keys, backend, vocabulary, add_bos=not unigram, add_eos=unigram)


def _encodable(tokens: Sequence[str]) -> list[str]:
    """The tokens with those that are not valid UTF-8 replaced by unique names: no text can contain them."""
    if all(tokens) and _is_unicode("".join(tokens)):
        return list(tokens)
    return [text if text and _is_unicode(text) else f"[not text {id}]" for id, text in enumerate(tokens)]


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _finish(
    keys: _Keys, backend: tokenizers.Tokenizer, vocabulary: Vocabulary, *, add_bos: bool, add_eos: bool
) -> Tokenizer:
    bos, eos = keys.id("bos_token_id"), keys.id("eos_token_id")
    bpe.set_bos_eos(
        backend,
        (keys.tokens[bos], bos) if bos is not None and keys.flag("add_bos_token", add_bos) else None,
        (keys.tokens[eos], eos) if eos is not None and keys.flag("add_eos_token", add_eos) else None,
    )
    ends: Iterable[int | None] = (keys.id(key) for key in _END_KEYS)
    return Tokenizer(
        backend,
        vocabulary,
        bos_token_id=bos,
        eos_token_id=eos,
        end_ids=[id for id in ends if id is not None],
    )
