"""Builders over the `tokenizers` package: byte-level BPE, SentencePiece BPE and unigram.

Owns how vocabularies, merges and scores become a backend tokenizer. Does not know files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from octavo.text.pieces import SPACE_MARK
from octavo.text.splits import SplitRule

Merge = tuple[str, str]
ModelT = TypeVar("ModelT", bound=models.Model)


def merges_from_scores(scores: Mapping[str, float]) -> list[Merge]:
    """All ways to form a piece from two others, best piece first.

    SentencePiece merges the adjacent pair whose concatenation scores highest, leftmost on ties; a rank order over
    pairs says the same, because a piece has one score. Equal scores go by order of the vocabulary.
    """
    merges: list[Merge] = []
    for piece in sorted(scores, key=scores.__getitem__, reverse=True):
        for cut in range(1, len(piece)):
            left, right = piece[:cut], piece[cut:]
            if left in scores and right in scores:
                merges.append((left, right))
    return merges


def byte_level_backend(vocab: Mapping[str, int], merges: Sequence[Merge], split: SplitRule) -> tokenizers.Tokenizer:
    """A byte-level BPE tokenizer without added tokens. Raises ValueError for merges outside the vocabulary."""
    model = _guarded(lambda: models.BPE(dict(vocab), list(merges), ignore_merges=split.whole_words))
    backend = tokenizers.Tokenizer(model)
    backend.normalizer = split.normalizer()
    backend.pre_tokenizer = split.pre_tokenizer()
    backend.decoder = decoders.ByteLevel()
    return backend


def sentencepiece_bpe_backend(
    vocab: Mapping[str, int],
    merges: Sequence[Merge],
    *,
    unknown: str | None,
    byte_fallback: bool,
    normalizer: normalizers.Normalizer,
    pre_tokenizer: pre_tokenizers.PreTokenizer | None = None,
) -> tokenizers.Tokenizer:
    """A SentencePiece BPE tokenizer without added tokens; the normalizer writes spaces as U+2581."""
    model = _guarded(
        lambda: models.BPE(dict(vocab), list(merges), unk_token=unknown, fuse_unk=True, byte_fallback=byte_fallback)
    )
    backend = tokenizers.Tokenizer(model)
    backend.normalizer = normalizer
    if pre_tokenizer is not None:
        backend.pre_tokenizer = pre_tokenizer
    return backend


def unigram_backend(
    pieces: Sequence[tuple[str, float]],
    *,
    unknown_id: int,
    byte_fallback: bool,
    normalizer: normalizers.Normalizer | None,
    pre_tokenizer: pre_tokenizers.PreTokenizer,
) -> tokenizers.Tokenizer:
    """A unigram tokenizer without added tokens."""
    backend = tokenizers.Tokenizer(_guarded(lambda: models.Unigram(list(pieces), unknown_id, byte_fallback)))
    if normalizer is not None:
        backend.normalizer = normalizer
    backend.pre_tokenizer = pre_tokenizer
    return backend


def spaces_to_marks(*, prefix: bool) -> normalizers.Normalizer:
    """Spaces become U+2581; with `prefix`, one is put before every stretch of text between special tokens."""
    replace = normalizers.Replace(" ", SPACE_MARK)
    return normalizers.Sequence([normalizers.Prepend(SPACE_MARK), replace]) if prefix else replace


def set_bos_eos(backend: tokenizers.Tokenizer, bos: tuple[str, int] | None, eos: tuple[str, int] | None) -> None:
    """Let "add special tokens" put `bos` before and `eos` after a text, each a (token, id) or None; nothing else."""
    # The template's language knows neither spaces nor colons in a token: name them by place.
    parts = [("[bos]", bos), ("$A", None), ("[eos]", eos)]
    template = " ".join(name for name, token in parts if name == "$A" or token is not None)
    special = [(name, token[1]) for name, token in parts if token is not None]
    backend.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)


def _guarded(build: Callable[[], ModelT]) -> ModelT:
    """The package raises bare exceptions for inconsistent data; give them one type."""
    try:
        return build()
    except Exception as error:
        raise ValueError(str(error)) from error
