"""Which template means which format, what is held back, what is no call, and arguments that come piece by piece."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from octavo.text.calls import FORMATS, CallArguments, CallBegin, CallParser, Said, format_of_template
from tests.text.calls.test_recorded import parsed

TEMPLATES = {
    "Qwen-Qwen2.5-7B-Instruct": "hermes",
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use": "hermes",
    "Qwen3-Coder": "qwen3_coder",
    "GLM-4.7-Flash": "glm4",
    "Kimi-K2-Instruct": "kimi_k2",
    "deepseek-ai-DeepSeek-V3.1": "deepseek_v31",
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": "deepseek_v3",
    "ibm-granite-granite-3.3-2B-Instruct": "granite",
    "meta-llama-Llama-3.2-3B-Instruct": "llama3_json",
    "mistralai-Mistral-Nemo-Instruct-2407": "mistral",
    "unsloth-mistral-Devstral-Small-2507": "mistral",
}


@pytest.mark.parametrize(("name", "format"), TEMPLATES.items())
def test_real_templates_choose_their_format(shared_data: Path, name: str, format: str) -> None:
    found = format_of_template((shared_data / f"chat_templates/templates/{name}.jinja").read_text())
    assert found is FORMATS[format]


def test_a_template_without_tools_has_no_format() -> None:
    assert format_of_template("{{ messages[0].content }}") is None


def test_words_go_out_at_once_and_marks_are_held_back() -> None:
    parser = CallParser(FORMATS["hermes"])
    assert parser.feed("Let me see. <tool") == [Said("Let me see. ")]
    assert parser.feed("box is open") == [Said("<toolbox is open")]
    assert parser.feed(" <tool_call>") == [Said(" ")]


def test_arguments_stream_once_the_name_is_known() -> None:
    parser = CallParser(FORMATS["hermes"])
    assert parser.feed('<tool_call>\n{"name": "write", "arg') == []
    assert parser.feed('uments": {"text": "on') == [CallBegin(0, "write"), CallArguments(0, '{"text": "on')]
    assert parser.feed("ce }") == [CallArguments(0, "ce }")]
    assert parser.feed('"}}\n</tool_call>') == [CallArguments(0, '"}')]
    assert parser.finish() == []
    assert parser.num_calls == 1


def test_a_cut_off_call_shows_what_there_was() -> None:
    content, calls = parsed("hermes", '<tool_call>{"name": "write", "arguments": {"text": "on', 5)
    assert (content, calls) == ("", [("write", '{"text": "on')])


@pytest.mark.parametrize(
    ("format", "text"),
    [
        ("hermes", "<tool_call>no JSON</tool_call>"),
        ("hermes", '<tool_call>{"arguments": {}}'),
        ("hermes", '<tool_call>{"name": 5, "arguments": {}}'),
        ("llama3_json", '{"answer": {"name": "x"}}'),
        ("llama3_json", "{ unbalanced"),
        ("mistral", "[TOOL_CALLS] well, no"),
        ("pythonic", "[1, 2, 3]"),
        ("pythonic", "[f(1)]"),
        ("pythonic", "[f(a=__import__('os'))]"),
        ("pythonic", "[f(a={(1, 2): 3})]"),
        ("pythonic", "[f(a=1e999)]"),
        ("hermes", '<tool_call>{"name": "f", "arguments": "{\\"a\\": NaN}"}'),
        ("pythonic", "[" * 5000),
        ("glm4", "<tool_call>two words</tool_call>"),
        ("qwen3_coder", "<tool_call>nothing</tool_call>"),
        ("phi4_mini", "functools is a module"),
    ],
)
def test_what_is_no_call_is_given_back_whole(format: str, text: str) -> None:
    for size in (1, 4, len(text)):
        content, calls = parsed(format, text, size)
        assert calls == []
        assert content.replace("</tool_call>", "") == text.replace("</tool_call>", "")


def test_a_call_before_its_name_and_with_arguments_as_text() -> None:
    text = '<tool_call>{"arguments": "{\\"a\\": 1}", "name": "f"}</tool_call>'
    assert parsed("hermes", text, 2) == ("", [("f", '{"a": 1}')])


def test_values_are_typed_by_the_schema() -> None:
    schema = {"properties": {"n": {"type": "integer"}, "ok": {"type": "boolean"}, "s": {"type": "string"}}}
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema}}]
    parser = CallParser(FORMATS["qwen3_coder"], tools)
    parameters = "".join(f"<parameter={k}>\n{v}\n</parameter>" for k, v in (("n", 3), ("ok", "True"), ("s", 4)))
    events = parser.feed(f"<tool_call><function=f>{parameters}</function></tool_call>")
    assert isinstance(events[-1], CallArguments)
    assert json.loads(events[-1].text) == {"n": 3, "ok": True, "s": "4"}


def test_a_number_that_json_does_not_have_stays_text() -> None:
    tools = [{"function": {"name": "f", "parameters": {"properties": {"n": {"type": "number"}}}}}]
    parser = CallParser(FORMATS["qwen3_coder"], tools)
    events = parser.feed("<tool_call><function=f><parameter=n>NaN</parameter></function></tool_call>")
    assert events[-1] == CallArguments(0, '{"n": "NaN"}')


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_any_text_ends_and_nothing_depends_on_the_cuts(format: str) -> None:
    """Random text made of marks and JSON scraps: no exception, no loop, the same result for every cut."""
    draw = random.Random(format)
    marks = [*FORMATS[format].opening, *FORMATS[format].noise, FORMATS[format].bare]
    scraps = [*marks, *marks, '{"name": "f", "arguments": {"a": [1, "}"]}}', "{", "}", "[", "]", '"', "\\", " ", "\n"]
    scraps += ["name", "f(a=1)", "</tool_call>", "<function=f>", "<arg_key>", "words ", ":", ","]
    for _ in range(200):
        text = "".join(draw.choices(scraps, k=draw.randint(1, 12)))
        ways = {str(parsed(format, text, size)) for size in (1, 2, 5, 1000)}
        assert len(ways) == 1, text
