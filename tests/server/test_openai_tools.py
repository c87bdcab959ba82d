"""Tools and reasoning through OpenAI's client: whole and streamed, in the fields its users read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.server.fake_engine import EchoEngine, FakeEngine
from tests.server.test_app import real_server

CALL = '<tool_call>{"name":"f","arguments":{"a":1}}</tool_call>'
TOOLS: Any = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


@pytest.fixture
def engine() -> FakeEngine:
    return EchoEngine()


@pytest.fixture
def client(engine: FakeEngine) -> Iterator[openai.OpenAI]:
    with real_server(engine) as url:
        yield openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)


def asked(client: openai.OpenAI, text: str, **fields: Any) -> Any:
    messages: Any = [{"role": "user", "content": text}]
    return client.chat.completions.create(model="m", messages=messages, max_tokens=60, **fields)


def test_a_call_takes_the_place_of_the_content(client: openai.OpenAI, engine: FakeEngine) -> None:
    choice = asked(client, CALL, tools=TOOLS).choices[0]
    assert engine.last_tools == TOOLS
    assert choice.message.content is None
    assert set(engine.last_marks) == {"<think>", "</think>", "<tool_call>", "</tool_call>"}
    call = choice.message.tool_calls[0]
    assert (call.type, call.function.name, json.loads(call.function.arguments)) == ("function", "f", {"a": 1})
    assert call.id.startswith("call_")


def test_streamed_pieces_add_up_to_the_call(client: openai.OpenAI) -> None:
    pieces, ids, reasons = "", [], []
    for chunk in asked(client, CALL, tools=TOOLS, stream=True):
        delta = chunk.choices[0].delta
        assert not delta.content
        for call in delta.tool_calls or ():
            pieces += call.function.arguments or ""
            ids += [call.id] if call.id else []
            assert call.index == 0
        reasons.append(chunk.choices[0].finish_reason)
    assert json.loads(pieces) == {"a": 1}
    assert len(ids) == 1
    assert reasons[-1] == "length"  # the fake engine always ends so


def test_an_answer_that_ends_with_a_call_says_so(client: openai.OpenAI, engine: FakeEngine) -> None:
    engine.finish_reason = "stop"
    assert asked(client, CALL, tools=TOOLS).choices[0].finish_reason == "tool_calls"
    assert [c.choices[0].finish_reason for c in asked(client, CALL, tools=TOOLS, stream=True)][-1] == "tool_calls"
    assert asked(client, "words", tools=TOOLS).choices[0].finish_reason == "stop"


def test_words_and_a_call(client: openai.OpenAI) -> None:
    message = asked(client, f"Hm. {CALL}", tools=TOOLS).choices[0].message
    assert (message.content, len(message.tool_calls)) == ("Hm. ", 1)


def test_only_the_first_call_where_calls_may_not_be_parallel(client: openai.OpenAI) -> None:
    short = '<tool_call>{"name":"f"}</tool_call>'
    two = short[:-12] + short[:-12]
    assert len(asked(client, two, tools=TOOLS).choices[0].message.tool_calls) == 2
    assert len(asked(client, two, tools=TOOLS, parallel_tool_calls=False).choices[0].message.tool_calls) == 1


@pytest.mark.parametrize("fields", [{}, {"tools": TOOLS, "tool_choice": "none"}])
def test_without_tools_a_call_is_content(client: openai.OpenAI, fields: Any) -> None:
    message = asked(client, CALL, **fields).choices[0].message
    assert (message.content, message.tool_calls) == (CALL, None)


def test_reasoning_has_fields_of_its_own(client: openai.OpenAI) -> None:
    message = asked(client, "<think>hm</think>yes").choices[0].message
    assert (message.content, message.reasoning, message.reasoning_content) == ("yes", "hm", "hm")
    hidden = asked(client, "<think>hm</think>yes", extra_body={"include_reasoning": False}).choices[0].message
    assert hidden.content == "yes"
    assert not hasattr(hidden, "reasoning")
    deltas = [chunk.choices[0].delta for chunk in asked(client, "<think>hm</think>yes", stream=True)]
    assert "".join(delta.content or "" for delta in deltas) == "yes"
    assert "".join(getattr(delta, "reasoning", "") for delta in deltas) == "hm"
