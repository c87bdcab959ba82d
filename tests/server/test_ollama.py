"""Ollama's API by its own client: chat, generate, thinking, tools, lists, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import ollama
import pytest
from starlette.testclient import TestClient

from octavo.server.app import create_app
from octavo.server.settings import ServerSettings
from tests.server.fake_engine import EchoEngine, FakeEngine
from tests.server.test_app import real_server

CALL = '<tool_call>{"name":"f","arguments":{"a":1}}</tool_call>'
TOOLS: Any = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]


@pytest.fixture
def engine() -> FakeEngine:
    return EchoEngine()


@pytest.fixture
def client(engine: FakeEngine) -> Iterator[ollama.Client]:
    with real_server(engine) as url:
        client = ollama.Client(host=url)
        yield client
        client._client.close()


@pytest.fixture
def http(engine: FakeEngine) -> Iterator[TestClient]:
    with TestClient(create_app(engine), raise_server_exceptions=False) as test:
        yield test


def user(text: str) -> Any:
    return [{"role": "user", "content": text}]


def test_chat_whole_and_streamed(client: ollama.Client) -> None:
    answer = client.chat("m", user("hello"))
    assert (answer.message.content, answer.done, answer.done_reason) == ("hello", True, "length")
    assert (answer.prompt_eval_count, answer.eval_count) == (5, 5)
    assert answer.total_duration >= answer.prompt_eval_duration
    parts = list(client.chat("m", user("hello"), stream=True))
    assert "".join(part.message.content or "" for part in parts) == "hello"
    assert [part.done for part in parts] == [False] * 5 + [True]


def test_generate_keeps_its_context(client: ollama.Client, engine: FakeEngine) -> None:
    answer = client.generate("m", "ab", system="s")
    assert engine.last_chat[0] == {"role": "system", "content": "s"}
    assert (answer.response, list(answer.context)) == ("ab", [97, 98, 97, 98])
    assert client.generate("m", "c", context=answer.context).response == "ababc"
    assert "".join(part.response for part in client.generate("m", "ab", stream=True)) == "ab"
    assert client.generate("m", "<x>", raw=True).response == "<x>"


def test_thinking_and_tools(client: ollama.Client) -> None:
    answer = client.chat("m", user("<think>hm</think>yes"), think=True)
    assert (answer.message.thinking, answer.message.content) == ("hm", "yes")
    called = client.chat("m", user(CALL), tools=TOOLS, options={"num_predict": 60})
    assert [(c.function.name, dict(c.function.arguments)) for c in called.message.tool_calls] == [("f", {"a": 1})]
    calls = [c for part in client.chat("m", user(CALL), tools=TOOLS, options={"num_predict": 60}, stream=True)
             for c in part.message.tool_calls or ()]  # fmt: skip
    assert [dict(call.function.arguments) for call in calls] == [{"a": 1}]


def test_a_conversation_with_tools_goes_back(client: ollama.Client, engine: FakeEngine) -> None:
    messages = [
        *user("a"),
        {"role": "assistant", "thinking": "t", "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]},
        {"role": "tool", "tool_name": "f", "content": "42"},
    ]
    client.chat("m", messages)
    assert engine.last_chat[1]["reasoning_content"] == "t"
    assert engine.last_chat[1]["tool_calls"][0]["function"]["arguments"] == {"x": 1}
    assert engine.last_chat[2] == {"role": "tool", "name": "f", "content": "42"}


def test_options_reach_the_sampler(client: ollama.Client, engine: FakeEngine) -> None:
    client.chat("m", user("a"))
    assert (engine.last_sampling.temperature, engine.last_sampling.top_k, engine.last_sampling.top_p) == (0.5, 40, 0.9)
    options = {"temperature": 0.1, "top_k": 3, "num_predict": 7, "repeat_penalty": 1.1, "seed": 5, "stop": ["x"]}
    client.chat("m", user("a"), options=options | {"num_ctx": 64, "num_thread": 4, "mirostat": 0})
    sampling = engine.last_sampling
    assert (sampling.temperature, sampling.top_k, sampling.max_tokens, sampling.seed) == (0.1, 3, 7, 5)
    assert (sampling.repetition_penalty, sampling.stop_strings) == (1.1, ("x",))


def test_lists_and_descriptions(client: ollama.Client) -> None:
    assert [model.model for model in client.list().models] == ["fake"]
    assert client.ps().models[0].context_length == 64
    shown = client.show("fake")
    assert shown.details.parameter_size == "1.0M"
    assert {"completion", "tools", "thinking"} <= set(shown.capabilities)
    with pytest.raises(ollama.ResponseError, match="not found") as error:
        client.show("other")
    assert error.value.status_code == 404


def test_empty_requests_load(http: TestClient) -> None:
    assert http.post("/api/generate", json={"model": "m"}).json()["done_reason"] == "load"
    assert http.post("/api/chat", json={"model": "m", "messages": []}).json()["done_reason"] == "load"


@pytest.mark.parametrize(
    ("path", "body", "word"),
    [
        ("generate", {"prompt": "a"}, "model"),
        ("generate", {"model": "m", "prompt": "a", "images": ["x"]}, "images"),
        ("generate", {"model": "m", "prompt": "a", "suffix": "b"}, "suffix"),
        ("generate", {"model": "m", "prompt": "a", "template": "{{ .Prompt }}"}, "template"),
        ("generate", {"model": "m", "prompt": "a", "format": "json"}, "format"),
        ("generate", {"model": "m", "prompt": "a", "keep_alive": 0}, "keep_alive"),
        ("generate", {"model": "m", "prompt": "a", "raw": True, "system": "s"}, "system"),
        ("generate", {"model": "m", "prompt": "a", "raw": True, "context": [1]}, "context"),
        ("chat", {"model": "m", "messages": [{"role": "user", "content": "a"}], "tools": [{"function": "x"}]}, "tools"),
        ("generate", {"model": "m", "prompt": "a", "options": {"num_ctx": 100}}, "num_ctx"),
        ("generate", {"model": "m", "prompt": "a", "options": {"mirostat": 2}}, "mirostat"),
        ("generate", {"model": "m", "prompt": "a", "options": {"temprature": 2}}, "temprature"),
        ("generate", {"model": "m", "prompt": "x" * 100}, "100 tokens"),
        ("chat", {"model": "m", "messages": [{"role": "user", "content": "a", "images": ["x"]}]}, "images"),
        ("chat", {"model": "m", "messages": [{"content": "a"}]}, "role"),
        ("pull", {"model": "m"}, "/api/pull"),
        ("embed", {"model": "m", "input": "a"}, "/api/embed"),
    ],
)
def test_what_is_refused_is_named(http: TestClient, path: str, body: dict[str, Any], word: str) -> None:
    answer = http.post(f"/api/{path}", json=body)
    assert answer.status_code == 400
    assert set(answer.json()) == {"error"}
    assert word in answer.json()["error"]


def test_errors_within_a_stream_are_lines(http: TestClient, engine: FakeEngine) -> None:
    engine.fail_after = 1
    lines = http.post("/api/chat", json={"model": "m", "messages": user("ab")}).text.splitlines()
    assert "has ended" in json.loads(lines[-1])["error"]


def test_keys_guard_it(engine: FakeEngine) -> None:
    with TestClient(create_app(engine, ServerSettings(api_keys=("one",)))) as test:
        assert test.get("/api/tags").status_code == 401
        assert test.get("/api/version").status_code == 200
        assert test.get("/api/tags", headers={"Authorization": "Bearer one"}).status_code == 200
