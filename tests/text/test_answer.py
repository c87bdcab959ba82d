"""AnswerReader: which formats a template means, names of parsers, and parts in the order they come."""

from __future__ import annotations

import pytest

from octavo.base.errors import ConfigError
from octavo.text.answer import (
    CALL_ALIASES,
    REASONING_ALIASES,
    REASONING_FORMATS,
    AnswerFormats,
    Thought,
    Words,
    reasoning_parser,
    tool_call_parser,
)
from octavo.text.calls import FORMATS, CallArguments, CallBegin
from octavo.text.reasoning import THINK

TOOLS = [{"type": "function", "function": {"name": "f"}}]
TEMPLATE = "<think></think><tool_call>"


def test_a_thought_then_words_then_a_call() -> None:
    reader = AnswerFormats.of_template(TEMPLATE).reader("<|im_start|>assistant\n", TOOLS)
    parts = reader.feed('<think>hm</think>Well. <tool_call>{"name": "f", "arguments": {}}', last=True)
    assert parts == [Thought("hm"), Words("Well. "), CallBegin(0, "f"), CallArguments(0, "{}")]
    assert reader.num_calls == 1


def test_a_prompt_may_end_inside_a_thought() -> None:
    formats = AnswerFormats.of_template(TEMPLATE)
    assert formats.reader("assistant\n<think>\n", None).feed("hm</think>yes") == [Thought("hm"), Words("yes")]
    assert formats.reader("<think>\n\n</think>\n\n", None).feed("yes") == [Words("yes")]


def test_tags_that_others_wrote_open_nothing() -> None:
    formats = AnswerFormats.of_template(TEMPLATE)
    prompt = "<|im_start|>user\nWhat does <think> mean?<|im_end|>\n<|im_start|>assistant\n"
    assert formats.reader(prompt, None).feed("A tag.") == [Words("A tag.")]


def test_an_answer_that_was_begun_goes_on_where_it_was() -> None:
    formats = AnswerFormats.of_template(TEMPLATE)
    inside = formats.reader("assistant\n<think>I wonder", None, begun="<think>I wonder")
    assert inside.feed(" why</think>so") == [Thought(" why"), Words("so")]
    outside = formats.reader("<think>a</think>It is", None, begun="<think>a</think>It is")
    assert outside.feed(" so") == [Words(" so")]


def test_marks_are_those_that_it_looks_for() -> None:
    formats = AnswerFormats.of_template(TEMPLATE)
    assert formats.reader("", None).marks == ("<think>", "</think>")
    assert set(formats.reader("", TOOLS).marks) == {"<think>", "</think>", "<tool_call>", "</tool_call>"}


def test_a_call_ends_a_thought_that_has_no_end() -> None:
    reader = AnswerFormats.of_template(TEMPLATE).reader("<think>\n", TOOLS)
    parts = reader.feed('hm <tool_call>{"name": "f", "arguments": {}}</tool_call>')
    assert parts == [Thought("hm "), CallBegin(0, "f"), CallArguments(0, "{}")]


def test_names_choose_and_none_turns_off() -> None:
    formats = AnswerFormats.of_template("plain", reasoning="deepseek_r1", calls="mistral")
    assert (formats.reasoning, formats.calls) == (THINK, FORMATS["mistral"])
    assert AnswerFormats.of_template(TEMPLATE, reasoning="none", calls="none") == AnswerFormats(None, None)
    with pytest.raises(ConfigError, match="hermes"):
        tool_call_parser("nonsense")
    with pytest.raises(ConfigError, match="think"):
        reasoning_parser("nonsense")


def test_other_engines_names_mean_formats_that_exist() -> None:
    assert set(CALL_ALIASES.values()) <= set(FORMATS)
    assert set(REASONING_ALIASES.values()) <= set(REASONING_FORMATS)
