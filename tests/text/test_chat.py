"""Chat templates: what they see, how they fail, continuation, and that they cannot reach out."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Any

import pytest

from octavo.base.errors import ChatTemplateError, InvalidRequestError
from octavo.text import chat
from octavo.text.chat import ChatTemplate

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
USER = [{"role": "user", "content": "Hi"}]


def render(source: str, messages: Any = USER, **options: Any) -> str:
    return ChatTemplate(source).render(messages, **options)


def test_a_conversation() -> None:
    assert render(CHATML) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert render(CHATML, add_generation_prompt=False) == "<|im_start|>user\nHi<|im_end|>\n"


def test_whitespace_as_transformers_has_it() -> None:
    assert render("a\n  {% if true %}\nb\n  {% endif %}\nc\n") == "a\nb\nc"


def test_variables_win_over_special_tokens() -> None:
    template = ChatTemplate("{{ bos_token }}{{ mode }}", defaults={"bos_token": "<s>"})
    assert template.render(USER, variables={"mode": "deep"}) == "<s>deep"
    assert template.render(USER, variables={"bos_token": "x"}) == "x"


def test_variables_cannot_replace_the_conversation() -> None:
    assert render("{{ messages|length }}", variables={"messages": []}) == "1"


def test_tools_and_documents() -> None:
    source = "{{ tools[0].function.name }} {{ documents[0]['title'] }}"
    tools = [{"type": "function", "function": {"name": "add"}}]
    assert render(source, tools=tools, documents=[{"title": "T", "text": "x"}]) == "add T"


def test_absent_tools_are_none_and_undefined_only_where_none_fails() -> None:
    assert render("{{ tools is defined }} {{ tools is none }} {{ documents is none }}") == "True True True"
    assert render("{% for tool in tools %}x{% endfor %}.") == "."


def test_json_without_escapes() -> None:
    source = "{{ x|tojson }} {{ x|tojson(indent=1) }} {{ x|tojson(separators=(',', ':'), sort_keys=true) }}"
    x = {"b": "é<&'", "a": [1, None, True]}
    assert render(source, variables={"x": x}) == (
        '{"b": "é<&\'", "a": [1, null, true]} {\n "b": "é<&\'",\n "a": [\n  1,\n  null,\n  true\n ]\n} '
        '{"a":[1,null,true],"b":"é<&\'"}'
    )
    assert render("{{ x|tojson(ensure_ascii=true) }}", variables={"x": "é"}) == '"\\u00e9"'


def test_loop_controls_namespaces_and_generation_blocks() -> None:
    source = (
        "{% set ns = namespace(n=0) %}{% for i in range(9) %}{% if i == 2 %}{% continue %}{% endif %}"
        "{% if i == 5 %}{% break %}{% endif %}{% set ns.n = ns.n + i %}{% endfor %}"
        "{% generation %}{{ ns.n }}{% endgeneration %} {{ dict(a=1).a }}"
    )
    assert render(source) == "8 1"


def test_the_clock() -> None:
    template = ChatTemplate("{{ strftime_now('%d %b %Y') }}", clock=lambda: datetime(2026, 1, 15))
    assert template.render(USER) == "15 Jan 2026"


def test_fields_that_are_none_are_left_out() -> None:
    messages = [{"role": "assistant", "content": None, "tool_calls": None}]
    assert render("{{ messages[0] }}", messages) == "{'role': 'assistant'}"


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_reasoning_under_any_name(name: str) -> None:
    messages = [{"role": "assistant", "content": "b", name: "a"}]
    source = "{{ messages[0].reasoning_content }} {{ messages[0].thinking }}"
    assert render(source, messages) == "a a"


def test_the_request_is_not_changed() -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "a"}]}]
    options = {"add_generation_prompt": False, "continue_final_message": True}
    assert render("{{ messages[0].content[0].text }}", messages, **options) == "a"
    assert messages == [{"role": "user", "content": [{"type": "text", "text": "a"}]}]


class TestContinuation:
    messages = ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "I am "})

    def test_the_prompt_ends_where_the_message_ends(self) -> None:
        prompt = render(CHATML, self.messages, add_generation_prompt=False, continue_final_message=True)
        assert prompt == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nI am "

    def test_a_template_that_trims(self) -> None:
        source = CHATML.replace("m.content", "m.content|trim")
        prompt = render(source, self.messages, add_generation_prompt=False, continue_final_message=True)
        assert prompt.endswith("assistant\nI am")

    def test_it_excludes_a_generation_prompt(self) -> None:
        with pytest.raises(InvalidRequestError, match="exclude each other"):
            render(CHATML, self.messages, continue_final_message=True)

    def test_a_template_that_drops_the_message(self) -> None:
        with pytest.raises(ChatTemplateError, match="does not write the last message"):
            render("{{ messages[0].content }}", self.messages, add_generation_prompt=False, continue_final_message=True)

    def test_a_message_without_text(self) -> None:
        with pytest.raises(InvalidRequestError, match="text content"):
            render(CHATML, [{"role": "assistant"}], add_generation_prompt=False, continue_final_message=True)


class TestFailures:
    def test_a_refusal_has_its_words_and_line(self) -> None:
        with pytest.raises(ChatTemplateError, match=r"line 2\): roles must alternate$") as caught:
            render("x\n{{ raise_exception('roles must alternate') }}")
        assert caught.value.status == 400 and caught.value.param == "messages"

    def test_an_error_has_its_kind_and_line(self) -> None:
        with pytest.raises(ChatTemplateError, match=r"line 3\): UndefinedError: 'nothing' is undefined"):
            render("\n\n{{ nothing.at.all }}")

    def test_bad_syntax(self) -> None:
        template = ChatTemplate("a\n{% if %}", "mine")
        for _ in range(2):
            with pytest.raises(ChatTemplateError, match=r"'mine' cannot be compiled: line 2"):
                template.render(USER)

    def test_endless_recursion(self) -> None:
        with pytest.raises(ChatTemplateError, match="recurses without end"):
            render("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}")

    def test_endless_output(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(chat, "MAX_PROMPT_CHARACTERS", 1000)
        with pytest.raises(ChatTemplateError, match="more than 1000 characters"):
            render("{% for a in range(999) %}{% for b in range(999) %}x{% endfor %}{% endfor %}")

    @pytest.mark.parametrize("messages", [[], None, ["Hi"], [{"role": "user", "content": object()}]])
    def test_conversations_that_are_none(self, messages: Any) -> None:
        with pytest.raises(InvalidRequestError):
            render(CHATML, messages)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ dict.__init__.x }}",
        "{{ namespace.__init__.__globals__ }}",
        "{% set ns = namespace(__class__=1) %}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ raise_exception.__globals__.x }}",
        "{{ range(10000000) }}",
    ],
)
def test_the_sandbox(source: str) -> None:
    with pytest.raises(ChatTemplateError):
        render(source)


def test_text_that_is_more_than_text_comes_as_text() -> None:
    class Role(enum.StrEnum):
        USER = "user"

    assert render("{{ messages[0].role }}", [{"role": Role.USER, "content": "x"}]) == "user"
