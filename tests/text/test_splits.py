"""The table of split rules: every rule splits without loss, and each group does what its name stands for."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.base.errors import UnsupportedModelError
from octavo.text.pieces import CHAR_TO_BYTE
from octavo.text.splits import SPLIT_RULES, split_rule

SAMPLE = "It's  HelloWorld 1234567, naïve 漢字カナ 한국!?\r\n\n  x_y=+3 ‘q’ (a/b)\t\t end  "


def pieces(name: str, text: str) -> list[str]:
    found = split_rule(name).pre_tokenizer().pre_tokenize_str(text)
    return [bytes(CHAR_TO_BYTE[char] for char in piece).decode("utf-8") for piece, _ in found]


@pytest.mark.parametrize("name", sorted(SPLIT_RULES))
def test_nothing_is_lost(name: str) -> None:
    found = pieces(name, SAMPLE)
    assert "".join(found) == SAMPLE
    assert len(found) > 3


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=40))
@settings(max_examples=50, deadline=None)
def test_nothing_is_lost_of_any_text(text: str) -> None:
    for name in {id(rule): name for name, rule in SPLIT_RULES.items()}.values():
        assert "".join(pieces(name, text)) == text


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("gpt-2", "It's  a 1234!?  ", ["It", "'s", " ", " a", " 1234", "!?", "  "]),
        ("gpt-2", "IT'S", ["IT", "'", "S"]),
        ("smollm", "a 123", ["a", " ", "1", "2", "3"]),
        ("llama-bpe", "IT'S (ab) 12345\n\n  x", ["IT", "'S", " (", "ab", ")", " ", "123", "45", "\n\n", " ", " x"]),
        ("qwen2", "12 a", ["1", "2", " a"]),
        ("ufakzeka", "IT'S", ["IT", "'S"]),
        ("ufakzeka", "it'll", ["it", "'ll"]),
        ("qwen35", "का a", ["का", " a"]),
        ("qwen2", "का", ["क", "ा"]),
        ("seed-coder", "!?\n\nx", ["!?", "\n\n", "x"]),
        ("qwen2", "!?\n\nx", ["!?\n\n", "x"]),
        ("minicpm5", "12345", ["123", "45"]),
        ("falcon", "a+b 12345", ["a", "+", "b", " ", "123", "45"]),
        ("default", "a=b 12345", ["a", "=", "b", " ", "123", "45"]),
        ("deepseek-llm", "ab 12345漢字", ["ab", " ", "12345", "漢字"]),
        ("deepseek-coder", "ab 123漢字!\n\n", ["ab", " ", "1", "2", "3", "漢字", "!", "\n", "\n"]),
        ("deepseek-v3", "1234 x.foo 漢字かな (b)", ["123", "4", " x", ".foo", " ", "漢字かな", " (", "b", ")"]),
        ("tekken", "HelloWorld's 12/\n", ["Hello", "World", "'s", " ", "1", "2", "/\n"]),
        ("gpt-4o", "HelloWorld's 1234", ["Hello", "World's", " ", "123", "4"]),
        ("tiny_aya", "1234567", ["1", "234", "567"]),
        ("superbpe", "by the way 1234567", ["by the way ", "1", "234", "567"]),
        ("kimi-k2", "漢字abc 1234", ["漢字", "abc", " ", "123", "4"]),
        ("bailingmoe", "It's\n\na", ["It", "'s", "\n\n", "a"]),
        ("exaone-moe", "a b c 12", ["a b c", " ", "1", "2"]),
        ("bloom", "Hi, you 12", ["Hi", ",", " you", " 12"]),
        ("viking", "Hi 12", ["Hi", " ", "1", "2"]),
        ("chameleon", "a?1", ["a", "?", "1"]),
        ("youtu", "漢字ABc's", ["漢字", "ABc's"]),
        ("jais-2", "a" + " " * 7 + "b", ["a", " " * 4, " " * 2, " b"]),
    ],
)
def test_groups(name: str, text: str, expected: list[str]) -> None:
    assert pieces(name, text) == expected


def test_an_unknown_name_is_an_error_that_names_it() -> None:
    with pytest.raises(UnsupportedModelError, match=r"'no-such-bpe'.*tokenizer\.ggml\.pre"):
        split_rule("no-such-bpe")
