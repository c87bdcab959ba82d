"""The incremental detokenizer against `decode` of the whole, over random ids and random cuts."""

from __future__ import annotations

from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.text.detokenizer import Detokenizer
from octavo.text.gguf_vocab import tokenizer_from_gguf
from octavo.text.tokenizer import Tokenizer

from .vocabularies import byte_level_metadata, sentencepiece_metadata

BYTE_LEVEL = tokenizer_from_gguf(byte_level_metadata())
SENTENCEPIECE = tokenizer_from_gguf(sentencepiece_metadata())
TOKENIZERS = {"byte level": BYTE_LEVEL, "sentencepiece": SENTENCEPIECE}
BYTE = {name: [tokenizer.id_bytes().index(bytes([b])) for b in range(256)] for name, tokenizer in TOKENIZERS.items()}

names = st.sampled_from(sorted(TOKENIZERS))
characters = st.characters(exclude_categories=("Cs",))
cuts = st.lists(st.integers(1, 5), min_size=1, max_size=20)


def ids_of(tokenizer: Tokenizer) -> st.SearchStrategy[list[int]]:
    """Ids in and a little outside the table."""
    return st.lists(st.integers(-2, tokenizer.vocab_size + 2), max_size=30)


def streamed(stream: Detokenizer, ids: list[int], sizes: list[int]) -> list[str]:
    pieces, at, turn = [], 0, 0
    while at < len(ids):
        size = sizes[turn % len(sizes)]
        pieces.append(stream.push(ids[at : at + size]))
        at, turn = at + size, turn + 1
    return [*pieces, stream.finish()]


@given(names, st.data(), cuts, st.booleans())
@settings(max_examples=400, deadline=None)
def test_any_split_gives_the_text_of_the_whole(name: str, data: st.DataObject, sizes: list[int], skip: bool) -> None:
    tokenizer = TOKENIZERS[name]
    ids = data.draw(ids_of(tokenizer))
    stream = Detokenizer(tokenizer, skip_special_tokens=skip)
    assert "".join(streamed(stream, ids, sizes)) == tokenizer.decode(ids, skip_special_tokens=skip)


@given(names, st.text(characters, max_size=20), cuts)
@settings(max_examples=300, deadline=None)
def test_a_character_is_never_split(name: str, text: str, sizes: list[int]) -> None:
    tokenizer = TOKENIZERS[name]
    for ids in (
        tokenizer.encode(text, add_special_tokens=False, parse_special=False),
        [BYTE[name][byte] for byte in text.encode()],
    ):
        stream = Detokenizer(tokenizer, skip_special_tokens=False)
        pieces = streamed(stream, ids, sizes)
        expected = tokenizer.decode(ids, skip_special_tokens=False)
        assert "".join(pieces) == expected
        assert "".join(pieces).count("\ufffd") == expected.count("\ufffd") == text.count("\ufffd")
        assert pieces[-1] == ""


@given(names, st.text(characters, max_size=12))
@settings(max_examples=200, deadline=None)
def test_encoding_is_undone_by_decoding(name: str, text: str) -> None:
    tokenizer = TOKENIZERS[name]
    if name == "sentencepiece":  # its marks for spaces come back as spaces
        text = text.replace("\u2581", "x")
    ids = tokenizer.encode(text, add_special_tokens=False, parse_special=False)
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


@given(names, st.data(), st.integers(0, 12), cuts)
@settings(max_examples=300, deadline=None)
def test_a_prompt_and_its_continuation_make_the_whole(
    name: str, data: st.DataObject, cut: int, sizes: list[int]
) -> None:
    tokenizer = TOKENIZERS[name]
    text = data.draw(st.text(characters, max_size=12))
    ids = tokenizer.encode(text, parse_special=False)
    stream = Detokenizer(tokenizer, prompt_ids=ids[:cut])
    out = "".join(streamed(stream, ids[cut:], sizes))
    whole, prompt = tokenizer.decode(ids), tokenizer.decode(ids[:cut])
    # A character that the cut falls into belongs to the continuation.
    assert prompt.rstrip("\ufffd") + out == whole or prompt + out == whole


@pytest.mark.parametrize("name", TOKENIZERS)
def test_bytes_that_are_not_text_are_replaced_as_soon_as_that_is_known(name: str) -> None:
    stream = Detokenizer(TOKENIZERS[name])
    byte = BYTE[name]
    assert stream.push([byte[0xE2]]) == ""
    assert stream.push([byte[0x82]]) == ""
    assert stream.push([byte[ord("a")]]) == "\ufffda"
    assert stream.push([byte[0xFF]]) == "\ufffd"
    assert stream.push([byte[0xF0], byte[0x9F]]) == ""
    assert stream.finish() == "\ufffd"


def test_tokens_that_cut_characters_are_joined() -> None:
    ids = BYTE_LEVEL.encode("€😀", add_special_tokens=False)
    assert len(ids) == 2 + 3  # merges leave a cut inside each character
    stream = Detokenizer(BYTE_LEVEL)
    assert [stream.push([id]) for id in ids] == ["", "€", "", "", "😀"]


def test_special_tokens_are_hidden_or_shown_and_user_tokens_always_shown() -> None:
    ids = BYTE_LEVEL.encode("<think>hello<|eot_id|>")
    assert BYTE_LEVEL.decode(ids) == "<think>hello"
    assert BYTE_LEVEL.decode(ids, skip_special_tokens=False) == "<|bos|><think>hello<|eot_id|>"
    stream = Detokenizer(BYTE_LEVEL, skip_special_tokens=False)
    assert stream.push(ids) + stream.finish() == "<|bos|><think>hello<|eot_id|>"


def test_special_tokens_that_are_marks_are_shown() -> None:
    """A model's marks around a call may be special tokens: whoever looks for them must see them."""
    mark, end = BYTE_LEVEL.token_to_id("<|bos|>"), BYTE_LEVEL.token_to_id("<|eot_id|>")
    assert mark is not None and end is not None
    ids = [*BYTE_LEVEL.encode("hello", add_special_tokens=False), mark, end]
    stream = Detokenizer(BYTE_LEVEL, marks=("<|bos|>[", "<|eot_id|>"))
    assert stream.push(ids) + stream.finish() == "hello<|bos|>"  # the end of an answer stays hidden


class TestLeadingSpace:
    """SentencePiece's prefix goes once, at the very start of a text."""

    the = SENTENCEPIECE.token_to_id("\u2581the")

    def ids(self, *tokens: int | None) -> list[int]:
        assert None not in tokens
        return [token for token in tokens if token is not None]

    def test_it_goes_at_the_start(self) -> None:
        stream = Detokenizer(SENTENCEPIECE)
        assert [stream.push(self.ids(self.the)) for _ in range(2)] == ["the", " the"]

    def test_a_hidden_bos_is_no_text(self) -> None:
        assert Detokenizer(SENTENCEPIECE, prompt_ids=[1]).push(self.ids(self.the)) == "the"
        assert Detokenizer(SENTENCEPIECE).push(self.ids(1, self.the)) == "the"

    def test_a_shown_bos_is_text(self) -> None:
        stream = Detokenizer(SENTENCEPIECE, skip_special_tokens=False)
        assert stream.push(self.ids(1, self.the)) == "<s> the"

    def test_it_stays_after_a_prompt(self) -> None:
        stream = Detokenizer(SENTENCEPIECE, prompt_ids=self.ids(1, self.the))
        assert stream.push(self.ids(self.the)) == " the"

    def test_only_one_goes(self) -> None:
        space = SENTENCEPIECE.token_to_id("\u2581")
        stream = Detokenizer(SENTENCEPIECE)
        assert [stream.push(self.ids(space)), stream.push(self.ids(self.the))] == ["", " the"]


class TestPromptThatEndsInsideACharacter:
    euro: ClassVar = [BYTE["byte level"][byte] for byte in "€".encode()]

    def test_the_continuation_completes_it(self) -> None:
        stream = Detokenizer(BYTE_LEVEL, prompt_ids=self.euro[:2])
        assert stream.push(self.euro[2:]) == "€"

    def test_what_never_completes_it_says_nothing_of_it(self) -> None:
        stream = Detokenizer(BYTE_LEVEL, prompt_ids=self.euro[:2])
        assert stream.push(BYTE_LEVEL.encode("hello", add_special_tokens=False)) == "hello"

    def test_no_continuation_says_nothing(self) -> None:
        assert Detokenizer(BYTE_LEVEL, prompt_ids=self.euro[:2]).finish() == ""

    def test_a_half_completed_one_is_replaced_at_the_end(self) -> None:
        stream = Detokenizer(BYTE_LEVEL, prompt_ids=self.euro[:1])
        assert stream.push(self.euro[1:2]) == ""
        assert stream.finish() == "\ufffd"


def test_spaces_between_special_tokens_can_be_left_out() -> None:
    # The vocabulary writes this user-defined token with marks, which mean spaces.
    spaces = SENTENCEPIECE.token_to_id("\u2581" * 4)
    assert spaces is not None
    for between, text in ((True, "<s>    "), (False, "<s>\u2581\u2581\u2581\u2581")):
        stream = Detokenizer(SENTENCEPIECE, skip_special_tokens=False, spaces_between_special_tokens=between)
        assert stream.push([1, spaces]) == text
