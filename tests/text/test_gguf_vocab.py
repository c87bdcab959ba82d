"""Tokenizers from GGUF metadata: kinds, defaults, special tokens, refusals."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest

from octavo.base.errors import InvalidRequestError, ModelFormatError, UnsupportedModelError
from octavo.text.gguf_vocab import tokenizer_from_gguf
from octavo.text.tokenizer import Tokenizer

from .vocabularies import CONTROL, NORMAL, USER, byte_level_metadata, sentencepiece_metadata


def texts(tokenizer: Tokenizer, text: str, **options: Any) -> list[str]:
    return [tokenizer.token_text(id) for id in tokenizer.encode(text, **options)]


def with_tokens(*tokens: tuple[str, int], **changes: Any) -> dict[str, Any]:
    """The byte-level metadata with more tokens at the end."""
    metadata = byte_level_metadata(**changes)
    metadata["tokenizer.ggml.tokens"] = metadata["tokenizer.ggml.tokens"] + [text for text, _ in tokens]
    metadata["tokenizer.ggml.token_type"] = metadata["tokenizer.ggml.token_type"] + [kind for _, kind in tokens]
    return metadata


class TestByteLevel:
    def test_merges_and_bos(self) -> None:
        tokenizer = tokenizer_from_gguf(byte_level_metadata())
        assert texts(tokenizer, "hello w1234") == ["<|bos|>", "hello", "Ġw", "123", "4"]
        assert texts(tokenizer, "hello", add_special_tokens=False) == ["hello"]

    def test_the_split_decides_what_may_merge(self) -> None:
        single_digits = tokenizer_from_gguf(byte_level_metadata(pre="qwen2"))
        assert texts(single_digits, "123") == ["1", "2", "3"]

    def test_whole_words_need_no_merges(self) -> None:
        metadata = with_tokens(("xyz", NORMAL))
        assert texts(tokenizer_from_gguf(metadata), "xyz", add_special_tokens=False) == ["xyz"]
        metadata["tokenizer.ggml.pre"] = "dbrx"
        assert texts(tokenizer_from_gguf(metadata), "xyz", add_special_tokens=False) == ["x", "y", "z"]

    def test_the_file_decides_about_bos_and_eos(self) -> None:
        tokenizer = tokenizer_from_gguf(byte_level_metadata(add_bos_token=False, add_eos_token=True))
        assert texts(tokenizer, "hello") == ["hello", "<|end_of_text|>"]

    def test_special_tokens_in_text(self) -> None:
        tokenizer = tokenizer_from_gguf(byte_level_metadata(add_bos_token=False))
        assert texts(tokenizer, "<|eot_id|><think>") == ["<|eot_id|>", "<think>"]
        literal = texts(tokenizer, "<|eot_id|><think>", parse_special=False)
        assert literal[-1] == "<think>" and "<|eot_id|>" not in literal
        assert tokenizer.decode(tokenizer.encode("<|eot_id|>", parse_special=False)) == "<|eot_id|>"

    def test_longer_special_tokens_come_first(self) -> None:
        tokenizer = tokenizer_from_gguf(with_tokens(("<a>", CONTROL), ("<a><b>", CONTROL), add_bos_token=False))
        assert texts(tokenizer, "<a><b><a>") == ["<a><b>", "<a>"]

    def test_the_end_of_generation_set(self) -> None:
        tokenizer = tokenizer_from_gguf(byte_level_metadata())
        ends = {tokenizer.token_text(id) for id in tokenizer.eos_token_ids}
        assert ends == {"<|eot_id|>", "<|end_of_text|>"}
        assert tokenizer.token_text(tokenizer.eos_token_id or -1) == "<|end_of_text|>"

    def test_declared_ends_count_whatever_their_text(self) -> None:
        eot = byte_level_metadata()["tokenizer.ggml.tokens"].index("<think>")
        assert eot in tokenizer_from_gguf(byte_level_metadata(eot_token_id=eot)).eos_token_ids

    def test_channel_ends_are_not_ends(self) -> None:
        harmony = [("<|end|>", CONTROL), ("<|return|>", CONTROL), ("<|call|>", CONTROL)]
        tokenizer = tokenizer_from_gguf(with_tokens(*harmony))
        ends = {tokenizer.token_text(id) for id in tokenizer.eos_token_ids}
        assert {"<|return|>", "<|call|>"} <= ends and "<|end|>" not in ends
        plain = tokenizer_from_gguf(with_tokens(harmony[0]))
        assert plain.token_to_id("<|end|>") in plain.eos_token_ids

    def test_file_marks_end_a_generation(self) -> None:
        tokenizer = tokenizer_from_gguf(with_tokens(("<|file_sep|>", CONTROL)))
        assert tokenizer.token_to_id("<|file_sep|>") in tokenizer.eos_token_ids

    def test_end_markers_called_ordinary_text(self) -> None:
        tokenizer = tokenizer_from_gguf(with_tokens(("<|im_end|>", NORMAL), ("</s>", NORMAL)))
        end = tokenizer.token_to_id("<|im_end|>")
        assert end in tokenizer.eos_token_ids and end in tokenizer.special_ids
        assert tokenizer.token_to_id("</s>") not in tokenizer.eos_token_ids

    def test_arrays_may_be_numpy(self) -> None:
        kinds = np.array(byte_level_metadata()["tokenizer.ggml.token_type"], np.int32)
        tokenizer = tokenizer_from_gguf(byte_level_metadata(token_type=kinds))
        assert tokenizer.special_ids == tokenizer_from_gguf(byte_level_metadata()).special_ids

    def test_tokens_that_are_not_text(self) -> None:
        broken = b"\xff\xfe".decode("utf-8", "surrogateescape")
        tokenizer = tokenizer_from_gguf(with_tokens((broken, NORMAL), ("", NORMAL)))
        last = tokenizer.vocab_size - 1
        assert tokenizer.token_bytes(last - 1) == b"\xff\xfe"
        assert tokenizer.token_bytes(last) == b""
        assert texts(tokenizer, "hello", add_special_tokens=False) == ["hello"]

    def test_ids_outside_the_table(self) -> None:
        tokenizer = tokenizer_from_gguf(byte_level_metadata(eos_token_id=2**32 - 1))
        assert tokenizer.eos_token_id is None
        for id in (-1, tokenizer.vocab_size, 10**9):
            assert tokenizer.token_text(id) == "" and tokenizer.token_bytes(id) == b""
            assert tokenizer.decode([id]) == ""

    def test_lone_surrogates_are_refused(self) -> None:
        with pytest.raises(InvalidRequestError, match=r"U\+D800 at character 2"):
            tokenizer_from_gguf(byte_level_metadata()).encode("ab\ud800")

    def test_composed_characters_for_qwen(self) -> None:
        tokenizer = tokenizer_from_gguf(byte_level_metadata(pre="qwen2"))
        assert tokenizer.encode("e\u0301") == tokenizer.encode("\u00e9")


class TestSentencePiece:
    def test_merges_by_score_and_byte_fallback(self) -> None:
        tokenizer = tokenizer_from_gguf(sentencepiece_metadata())
        assert texts(tokenizer, "the cat") == ["<s>", "▁the", "▁c", "at"]
        assert texts(tokenizer, "é漢€")[1:] == ["▁", "é", "漢", "<0xE2>", "<0x82>", "<0xAC>"]

    def test_a_prefix_after_every_special_token(self) -> None:
        tokenizer = tokenizer_from_gguf(sentencepiece_metadata(add_bos_token=False))
        assert texts(tokenizer, "the</s>the") == ["▁the", "</s>", "▁the"]

    def test_no_prefix(self) -> None:
        tokenizer = tokenizer_from_gguf(sentencepiece_metadata(add_bos_token=False, add_space_prefix=False))
        assert texts(tokenizer, "the the") == ["the", "▁the"]
        assert tokenizer.decode(tokenizer.encode(" the")) == " the"

    def test_user_defined_runs_of_spaces_match_spaces(self) -> None:
        tokenizer = tokenizer_from_gguf(sentencepiece_metadata(add_bos_token=False, add_space_prefix=False))
        for special in (True, False):
            assert texts(tokenizer, "at    at", parse_special=special) == ["at", "▁▁▁▁", "at"]
        assert tokenizer.decode(tokenizer.encode("at    at")) == "at    at"

    def test_phi3_drops_spaces_after_special_tokens(self) -> None:
        metadata = sentencepiece_metadata(add_bos_token=False, add_space_prefix=False)
        assert texts(tokenizer_from_gguf(metadata), "</s> the") == ["</s>", "▁the"]
        metadata["general.architecture"] = "phi3"
        assert texts(tokenizer_from_gguf(metadata), "</s> the") == ["</s>", "the"]

    def test_unigram(self) -> None:
        tokenizer = tokenizer_from_gguf(sentencepiece_metadata(model="t5", add_bos_token=False))
        # Scores are log-probabilities: one piece of -1 beats several.
        assert texts(tokenizer, "the cat") == ["▁the", "▁c", "at", "</s>"]
        assert tokenizer.decode(tokenizer.encode("the cat é€")) == "the cat é€"


class TestRefusals:
    @pytest.mark.parametrize("name", ["bert", "rwkv", "plamo2", "gemma4", "none"])
    def test_kinds_by_name(self, name: str) -> None:
        with pytest.raises(UnsupportedModelError, match="no tokenizer" if name == "none" else name):
            tokenizer_from_gguf(byte_level_metadata(model=name))

    def test_an_unknown_split_is_never_replaced(self) -> None:
        with pytest.raises(UnsupportedModelError, match="'brand-new-bpe'"):
            tokenizer_from_gguf(byte_level_metadata(pre="brand-new-bpe"))

    def test_a_missing_split_name_is_the_default_and_warns(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.WARNING, "octavo"):
            tokenizer = tokenizer_from_gguf(byte_level_metadata(pre=None), "old.gguf")
        assert "old.gguf" in caplog.text
        assert texts(tokenizer, "1234", add_special_tokens=False) == ["123", "4"]

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [
            ({"merges": ["h e", "nothing there"]}, "contradicts itself"),
            ({"merges": ["he"]}, "no second part"),
            ({"merges": None}, "merges is missing"),
            ({"tokens": None}, "tokens is missing"),
            ({"token_type": [1, 2]}, "2 token types"),
        ],
    )
    def test_contradictions(self, changes: dict[str, Any], reason: str) -> None:
        with pytest.raises(ModelFormatError, match=reason):
            tokenizer_from_gguf(byte_level_metadata(**changes), "bad.gguf")

    def test_scores_of_another_number(self) -> None:
        with pytest.raises(ModelFormatError, match="3 scores"):
            tokenizer_from_gguf(sentencepiece_metadata(scores=[0.0, 1.0, 2.0]))


def test_user_tokens_are_never_hidden() -> None:
    metadata = with_tokens(("<tool>", USER))
    tokenizer = tokenizer_from_gguf(metadata)
    id = tokenizer.token_to_id("<tool>")
    assert id is not None and id not in tokenizer.special_ids and id in tokenizer.added_ids
