"""Incremental detokenization: ids in, complete characters out.

Owns the state of one stream of text. Works on bytes, so that a character is never split whatever the tokens' borders;
bytes of an incomplete character are held back. Knows nothing of stop strings.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from octavo.text.tokenizer import Tokenizer

_MAX_CHARACTER_BYTES = 4


class Detokenizer:
    """The text of one growing sequence. The concatenation of all `push` and the `finish` equals `decode` of the ids.

    `prompt_ids` are the tokens before: after a prompt with text no leading space is removed, and a character that the
    prompt left incomplete is completed by the first tokens. With `spaces_between_special_tokens` off, a special token
    that follows another is written as in the vocabulary, without the spaces its text may stand for. Special tokens
    whose text occurs in one of `marks` are never hidden.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        skip_special_tokens: bool = True,
        spaces_between_special_tokens: bool = True,
        marks: Sequence[str] = (),
        prompt_ids: Sequence[int] = (),
    ) -> None:
        self._table = tokenizer.id_bytes()
        self._tokenizer = tokenizer
        self._hidden = tokenizer.special_ids if skip_special_tokens else frozenset()
        if marks:
            self._hidden -= tokenizer.special_in(marks)
        self._raw_specials = not (spaces_between_special_tokens or skip_special_tokens)
        self._last_added = False
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._leading_spaces = tokenizer.leading_spaces
        self._only_prompt_bytes = False
        if prompt_ids:
            self._continue_from(prompt_ids)

    def push(self, ids: Sequence[int]) -> str:
        """Take the next ids and return the text that is now complete (often "")."""
        data = self._join(ids)
        if not data:
            return ""
        if self._leading_spaces:
            data = self._strip(data)
        if self._only_prompt_bytes:
            self._only_prompt_bytes = False
            if data[0] & 0xC0 != 0x80:  # the prompt's character stays incomplete: that is the prompt's matter
                self._decoder.reset()
        return self._decoder.decode(data)

    def finish(self) -> str:
        """The end of the text: U+FFFD for a character that was never completed, else ""."""
        if self._only_prompt_bytes:
            return ""
        return self._decoder.decode(b"", True)

    def _join(self, ids: Sequence[int]) -> bytes:
        if self._raw_specials:
            return b"".join([self._shown(id) for id in ids])
        table, size, hidden = self._table, len(self._table), self._hidden
        return b"".join([table[id] for id in ids if 0 <= id < size and id not in hidden])

    def _shown(self, id: int) -> bytes:
        after_added, self._last_added = self._last_added, id in self._tokenizer.added_ids
        if after_added and self._last_added:
            return self._tokenizer.token_text(id).encode("utf-8", "surrogateescape")
        return self._table[id] if 0 <= id < len(self._table) else b""

    def _strip(self, data: bytes) -> bytes:
        spaces = min(self._leading_spaces, len(data) - len(data.lstrip(b" ")))
        self._leading_spaces = self._leading_spaces - spaces if spaces == len(data) else 0
        return data[spaces:]

    def _continue_from(self, prompt_ids: Sequence[int]) -> None:
        tail = b""
        for id in reversed(prompt_ids):
            tail = self._join([id]) + tail
            if len(tail) >= _MAX_CHARACTER_BYTES:
                break
        self._last_added = prompt_ids[-1] in self._tokenizer.added_ids
        if not tail:
            return
        self._leading_spaces = 0
        self._decoder.decode(tail[-_MAX_CHARACTER_BYTES:])
        self._only_prompt_bytes = bool(self._decoder.getstate()[0])
