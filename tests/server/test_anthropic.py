"""Anthropic's Messages API, by its own client: text, events, tools, reasoning, counts, errors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from starlette.testclient import TestClient

from octavo.server.app import create_app
from octavo.server.settings import ServerSettings
from tests.server.fake_engine import EchoEngine, FakeEngine
from tests.server.test_app import real_server

USER: Any = [{"role": "user", "content": "hello"}]
CALL = '<tool_call>{"name":"f","arguments":{"A":1}}</tool_call>'
TOOLS: Any = [{"name": "f", "description": "d", "input_schema": {"type": "object", "properties": {}}}]


@pytest.fixture
def engine() -> FakeEngine:
    return EchoEngine()


@pytest.fixture
def client(engine: FakeEngine) -> Iterator[anthropic.Anthropic]:
    with real_server(engine) as url:
        yield anthropic.Anthropic(base_url=url, api_key="any", max_retries=0)


def said(client: anthropic.Anthropic, text: str, **fields: Any) -> anthropic.types.Message:
    return client.messages.create(
        model="m", max_tokens=60, messages=[{"role": "user", "content": text}], **fields
    )  # fmt: skip


def test_a_message(client: anthropic.Anthropic, engine: FakeEngine) -> None:
    answer = said(client, "hello", system="be brief", extra_body={"temperature": 0.1, "top_k": 3})
    assert (engine.last_sampling.temperature, engine.last_sampling.top_k) == (0.1, 3)
    assert [block.type for block in answer.content] == ["text"]
    assert answer.content[0].text == "hello"
    assert (answer.role, answer.model, answer.stop_reason) == ("assistant", "m", "max_tokens")
    assert (answer.usage.input_tokens, answer.usage.cache_read_input_tokens, answer.usage.output_tokens) == (3, 2, 5)


def test_events_add_up_to_the_message(client: anthropic.Anthropic) -> None:
    with client.messages.stream(model="m", max_tokens=60, messages=USER) as stream:
        assert "".join(stream.text_stream) == "hello"
        message = stream.get_final_message()
    assert (message.content[0].text, message.usage.output_tokens) == ("hello", 5)


def test_tools_are_called(client: anthropic.Anthropic) -> None:
    answer = said(client, f"Well. {CALL}", tools=TOOLS)
    assert [block.type for block in answer.content] == ["text", "tool_use"]
    assert answer.content[0].text == "Well. "
    assert (answer.content[1].name, answer.content[1].input) == ("f", {"A": 1})
    with client.messages.stream(
        model="m", max_tokens=60, messages=[{"role": "user", "content": CALL}], tools=TOOLS
    ) as stream:
        message = stream.get_final_message()
    assert [(block.type, block.input) for block in message.content] == [("tool_use", {"A": 1})]


def test_why_an_answer_ended(client: anthropic.Anthropic, engine: FakeEngine) -> None:
    engine.finish_reason = "stop"
    assert said(client, "a").stop_reason == "end_turn"
    assert said(client, CALL, tools=TOOLS).stop_reason == "tool_use"
    engine.stop_reason = "x"
    answer = said(client, "a", stop_sequences=["x"])
    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", "x")


def test_one_call_where_they_may_not_be_parallel(client: anthropic.Anthropic) -> None:
    two = '<tool_call>{"name":"f"}<tool_call>{"name":"f"}'
    assert len(said(client, two, tools=TOOLS).content) == 2
    one = {"type": "auto", "disable_parallel_tool_use": True}
    assert len(said(client, two, tools=TOOLS, tool_choice=one).content) == 1


def test_a_stream_begins_before_its_first_block_is_whole(engine: FakeEngine) -> None:
    body = {"max_tokens": 9, "stream": True, "tools": TOOLS, "messages": [{"role": "user", "content": "<tool_call>"}]}
    with TestClient(create_app(engine)) as http:
        text = http.post("/v1/messages", json=body).text
    assert text.index("message_start") < text.index("ping") < text.index("message_delta")


def test_reasoning_is_a_block_of_its_own(client: anthropic.Anthropic) -> None:
    answer = said(client, "<think>hm</think>yes")
    assert [(b.type, getattr(b, "thinking", None) or b.text) for b in answer.content] == [
        ("thinking", "hm"),
        ("text", "yes"),
    ]


def test_without_tools_a_call_is_text(client: anthropic.Anthropic) -> None:
    assert said(client, CALL).content[0].text == CALL
    assert said(client, CALL, tools=TOOLS, tool_choice={"type": "none"}).content[0].text == CALL


def test_results_of_tools_reach_the_template(engine: FakeEngine) -> None:
    body = {
        "max_tokens": 9,
        "tools": TOOLS,
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a"}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "t", "signature": ""},
                {"type": "tool_use", "id": "1", "name": "f", "input": {"x": 1}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "42"}]},
                {"type": "text", "text": "so?"},
            ]},
        ],
    }  # fmt: skip
    with TestClient(create_app(engine)) as http:
        assert http.post("/v1/messages", json=body).status_code == 200
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
    assert engine.last_chat == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "", "reasoning_content": "t", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "42"},
        {"role": "user", "content": "so?"},
    ]
    assert engine.last_tools == [
        {"type": "function", "function": {"name": "f", "description": "d", "parameters": TOOLS[0]["input_schema"]}}
    ]


def test_tokens_are_counted(client: anthropic.Anthropic) -> None:
    assert client.messages.count_tokens(model="m", messages=USER).input_tokens == 5


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"messages": USER}, "max_tokens"),
        ({"max_tokens": 5}, "messages"),
        ({"messages": USER, "max_tokens": 0}, "max_tokens"),
        ({"messages": [{"role": "robot", "content": "x"}], "max_tokens": 5}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}], "max_tokens": 5}, "image"),
        ({"messages": USER, "max_tokens": 5, "nonsense": 1}, "nonsense"),
        ({"messages": USER, "max_tokens": 5, "container": "c"}, "container"),
        ({"messages": USER, "max_tokens": 5, "tools": TOOLS, "tool_choice": {"type": "any"}}, "tool_choice"),
        ({"messages": USER, "max_tokens": 5, "tools": [{"type": "bash_1", "name": "b", "input_schema": {}}]}, "bash_1"),
        ({"messages": USER, "max_tokens": 5, "stop_sequences": [" "]}, "stop_sequences"),
        ({"messages": USER, "max_tokens": 5, "thinking": {"type": "enabled", "budget_tokens": 1024}}, "budget_tokens"),
        ({"messages": USER, "max_tokens": 5, "thinking": {"type": "x"}}, "thinking.type"),
    ],
)
def test_what_is_refused_is_named(engine: FakeEngine, body: dict[str, Any], word: str) -> None:
    with TestClient(create_app(engine)) as http:
        answer = http.post("/v1/messages", json=body)
    assert (answer.status_code, answer.json()["type"]) == (400, "error")
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert word in answer.json()["error"]["message"]


def test_errors_are_the_clients_own(client: anthropic.Anthropic, engine: FakeEngine) -> None:
    with pytest.raises(anthropic.BadRequestError, match="100 tokens"):
        said(client, "x" * 100)
    with pytest.raises(anthropic.NotFoundError):
        client.get("/v1/messages/other", cast_to=object)
    engine.fail_after = 2
    with (
        pytest.raises(anthropic.APIStatusError, match="has ended"),
        client.messages.stream(model="m", max_tokens=60, messages=USER) as stream,
    ):
        stream.get_final_message()


def test_keys_come_in_its_own_header(engine: FakeEngine) -> None:
    with TestClient(create_app(engine, ServerSettings(api_keys=("one",)))) as http:
        body = {"messages": USER, "max_tokens": 5}
        refused = http.post("/v1/messages", json=body)
        assert (refused.status_code, json.loads(refused.content)["error"]["type"]) == (401, "authentication_error")
        assert http.post("/v1/messages", json=body, headers={"x-api-key": "one"}).status_code == 200
