"""The tokenizer: text to ids and ids to bytes, the same whatever file it came from.

Owns encoding (through the `tokenizers` package) and the table from id to bytes that decoding uses. Does not know file
formats: `folder`, `gguf_vocab` and `sentencepiece` build it. Immutable after loading and safe to share by threads.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import tokenizers

from octavo.base.errors import InvalidRequestError, UnsupportedError
from octavo.text.pieces import PieceRule
from octavo.text.special import end_of_generation


@dataclass(frozen=True)
class AddedToken:
    """A token that is matched before ordinary text. `special` ones can be hidden from the output."""

    content: str
    special: bool


@dataclass(frozen=True)
class Vocabulary:
    """The id table: `texts[id]` as written in the vocabulary ("" for a gap), and the added tokens by id.

    `rule` is None when text is not the concatenation of the tokens' bytes; `not_bytes` then names the reason.
    """

    texts: Sequence[str]
    added: Mapping[int, AddedToken]
    rule: PieceRule | None
    not_bytes: str = ""


class Tokenizer:
    """Text to token ids and back.

    `vocab_size` is the length of the id table (a model's padded vocabulary may be larger); `bos_token_id` is the id
    put first when special tokens are added (or named by the files as such), `eos_token_id` the one that ends a
    document, `eos_token_ids` all that end a generation, `special_ids` those hidden by skip_special_tokens.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        vocabulary: Vocabulary,
        *,
        bos_token_id: int | None = None,
        eos_token_id: int | None = None,
        end_ids: Sequence[int] = (),
    ) -> None:
        self._backend = backend
        self._vocabulary = vocabulary
        self._literal_lock = threading.Lock()
        self._literal_backend: tokenizers.Tokenizer | None = None
        self.vocab_size = len(vocabulary.texts)
        self.bos_token_id = bos_token_id
        self.eos_token_id = eos_token_id
        self.special_ids = frozenset(id for id, token in vocabulary.added.items() if token.special)
        self.added_ids = frozenset(vocabulary.added)
        declared = {*end_ids} if eos_token_id is None else {*end_ids, eos_token_id}
        contents = {token.content: id for id, token in vocabulary.added.items()}
        self.eos_token_ids = end_of_generation(contents, declared)

    def encode(self, text: str, *, add_special_tokens: bool = True, parse_special: bool = True) -> list[int]:
        """The ids of one text; see `encode_batch`."""
        return self.encode_batch([text], add_special_tokens=add_special_tokens, parse_special=parse_special)[0]

    def encode_batch(
        self, texts: Sequence[str], *, add_special_tokens: bool = True, parse_special: bool = True
    ) -> list[list[int]]:
        """The ids of each text.

        `add_special_tokens` adds what the model expects around a document (such as its BOS); a rendered chat prompt
        has it already. With `parse_special` off, special tokens written in the text are ordinary characters.
        Raises InvalidRequestError for text that is not valid Unicode (lone surrogates).
        """
        backend = self._backend if parse_special else self._without_specials()
        try:
            encodings = backend.encode_batch_fast(list(texts), add_special_tokens=add_special_tokens)
        except (TypeError, UnicodeEncodeError):
            for text in texts:
                _check_unicode(text)
            raise
        return [encoding.ids for encoding in encodings]

    def encode_spans(self, text: str, *, add_special_tokens: bool = True) -> list[tuple[int, int, int]]:
        """(id, first character, the one after the last) of each token of a text, as `encode` makes them."""
        try:
            encoding = self._backend.encode(text, add_special_tokens=add_special_tokens)
        except (TypeError, UnicodeEncodeError):
            _check_unicode(text)
            raise
        return [(id, start, stop) for id, (start, stop) in zip(encoding.ids, encoding.offsets, strict=True)]

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of the ids. Bytes that are not UTF-8 become U+FFFD; ids outside the table are empty."""
        if self._vocabulary.rule is None:
            known = [id for id in ids if 0 <= id < self.vocab_size]
            return self._backend.decode(known, skip_special_tokens=skip_special_tokens)
        table, size = self._bytes, self.vocab_size
        hidden = self.special_ids if skip_special_tokens else frozenset()
        data = b"".join([table[id] for id in ids if 0 <= id < size and id not in hidden])
        spaces = min(self.leading_spaces, len(data) - len(data.lstrip(b" ")))
        return data[spaces:].decode("utf-8", "replace")

    def token_bytes(self, id: int) -> bytes:
        """The bytes that this id contributes inside a text; b"" for an id outside the table."""
        return self.id_bytes()[id] if 0 <= id < self.vocab_size else b""

    def token_text(self, id: int) -> str:
        """The token as written in the vocabulary; "" for an id outside the table."""
        return self._vocabulary.texts[id] if 0 <= id < self.vocab_size else ""

    def special_in(self, texts: Sequence[str]) -> frozenset[int]:
        """The special tokens that some of these texts contain; the ends of an answer are never among them."""
        candidates = self.special_ids - self.eos_token_ids
        return frozenset(id for id in candidates if any(self.token_text(id) in text for text in texts))

    def token_to_id(self, token: str) -> int | None:
        """The id of a token given as written in the vocabulary, or None."""
        return self._ids.get(token)

    def id_bytes(self) -> list[bytes]:
        """The whole table from id to bytes; not to be changed. Raises UnsupportedError where there is none."""
        if self._vocabulary.rule is None:
            raise UnsupportedError(
                f"This model's tokenizer cannot stream text: {self._vocabulary.not_bytes} joins tokens by more than "
                "their bytes. It can be used for encoding only."
            )
        return self._bytes

    @property
    def leading_spaces(self) -> int:
        """How many spaces are removed at the very start of a decoded text (SentencePiece's prefix: 1)."""
        return self._vocabulary.rule.leading_spaces if self._vocabulary.rule else 0

    @cached_property
    def _bytes(self) -> list[bytes]:
        rule = self._vocabulary.rule
        assert rule is not None
        table = list(map(rule.encoder(), self._vocabulary.texts))
        for id, token in self._vocabulary.added.items():
            table[id] = rule.literal_bytes(token.content)
        return table

    @cached_property
    def _ids(self) -> dict[str, int]:
        ids = {text: id for id, text in enumerate(self._vocabulary.texts) if text}
        for id, token in self._vocabulary.added.items():
            ids.setdefault(token.content, id)
        return ids

    def _without_specials(self) -> tokenizers.Tokenizer:
        """A second backend over the same model that matches no special tokens; made once, when first needed."""
        with self._literal_lock:
            if self._literal_backend is None:
                source, copy = self._backend, tokenizers.Tokenizer(self._backend.model)
                for part in ("normalizer", "pre_tokenizer", "post_processor"):
                    if (value := getattr(source, part)) is not None:
                        setattr(copy, part, value)
                ordinary = [token for token in source.get_added_tokens_decoder().values() if not token.special]
                copy.add_tokens(ordinary)
                self._literal_backend = copy
            return self._literal_backend


def _check_unicode(text: object) -> None:
    if not isinstance(text, str):
        raise InvalidRequestError(f"Text to tokenize must be a string, not {type(text).__name__}.", param="prompt")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        code = ord(text[error.start])
        raise InvalidRequestError(
            f"The text is not valid Unicode: a lone surrogate U+{code:04X} at character {error.start}.",
            param="prompt",
        ) from None
