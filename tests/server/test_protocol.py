"""Bodies as clients really send them: nulls, wrong types, parts, roles; and answers as the specification has them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from octavo.server.app import create_app
from octavo.server.openai.protocol import ChatRequest, CompletionRequest
from octavo.server.settings import ServerSettings
from tests.server.fake_engine import FakeEngine

USER = [{"role": "user", "content": "hello"}]


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def http(engine: FakeEngine) -> Iterator[TestClient]:
    with TestClient(create_app(engine, ServerSettings())) as client:
        yield client


def events(answer: Any) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


# ---------------------------------------------------------------- bodies in


def test_a_null_is_an_absent_field(http: TestClient) -> None:
    chat = dict.fromkeys(ChatRequest.model_fields) | {"messages": USER}
    assert http.post("/v1/chat/completions", json=chat).status_code == 200
    completion = dict.fromkeys(CompletionRequest.model_fields) | {"prompt": "hello"}
    assert http.post("/v1/completions", json=completion).status_code == 200
    options = {"messages": USER, "stream": True, "stream_options": {"include_usage": None}}
    assert http.post("/v1/chat/completions", json=options).status_code == 200
    unknown = http.post("/v1/chat/completions", json={"messages": USER, "reasoning_effort": None, "audio": None})
    assert unknown.status_code == 200
    needed = http.post("/v1/chat/completions", json={"messages": None})
    assert needed.json()["error"]["code"] == "missing_required_parameter"


def test_whole_floats_are_integers(http: TestClient, engine: FakeEngine) -> None:
    body = {"messages": USER, "max_tokens": 2.0, "seed": 3.0, "top_k": 4.0}
    assert http.post("/v1/chat/completions", json=body).status_code == 200
    assert (engine.last_sampling.max_tokens, engine.last_sampling.seed, engine.last_sampling.top_k) == (2, 3, 4)
    assert http.post("/v1/completions", json={"prompt": [104.0]}).json()["choices"][0]["text"] == "H"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", True), ("n", "1"), ("n", 1.5), ("max_tokens", "5"), ("temperature", "0.5"), ("temperature", True),
        ("stream", 1), ("stream", "true"), ("logprobs", 3), ("stop", 5), ("seed", 2**70), ("user", 5),
        ("model", 3), ("logit_bias", [1]), ("stop_token_ids", [True]), ("metadata", "x"),
    ],
)  # fmt: skip
def test_ill_typed_fields_are_refused_by_name(http: TestClient, field: str, value: object) -> None:
    answer = http.post("/v1/chat/completions", json={"messages": USER, field: value})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].split("[")[0] == field


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"stream_options": {"include_usage": True}}, "stream_options", "only allowed with stream"),
        ({"stream": True, "stream_options": {"x": 1}}, "stream_options.x", "Unrecognized"),
        ({"reasoning_effort": "low"}, "reasoning_effort", "chat_template_kwargs"),
        ({"guided_json": {}}, "guided_json", "not supported"),
        ({"use_beam_search": True}, "use_beam_search", "not supported"),
        ({"echo": True}, "echo", "/v1/completions"),
        ({"add_special_tokens": True}, "add_special_tokens", "template"),
        ({"max_completion_tokens": 0}, "max_completion_tokens", "at least 1"),
        ({"max_tokens": 0}, "max_tokens", "at least 1"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "from 0 to 20"),
        ({"function_call": {"name": "f"}}, "function_call", "tools"),
        ({"store": True}, "store", "stored"),
        ({"service_tier": "flex"}, "service_tier", "auto"),
        ({"stream": True, "prompt_logprobs": 1}, "prompt_logprobs", "streamed"),
        ({"messages": "hi"}, "messages", "list"),
        ({"messages": ["hi"]}, "messages[0]", "object"),
        ({"messages": [{"content": "a"}]}, "messages[0].role", "role"),
        ({"messages": [{"role": "alien", "content": "a"}]}, "messages[0].role", "one of system"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "missing"),
        ({"messages": [*USER, {"role": "user", "content": 5}]}, "messages[1].content", "text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
         "messages[0].content[0].type", "image_url"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text", "text"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_by_name(
    http: TestClient, body: dict[str, object], param: str, words: str
) -> None:
    answer = http.post("/v1/chat/completions", json={"messages": USER, **body})
    error = answer.json()["error"]
    assert answer.status_code == 400
    assert error["param"] == param
    assert words in error["message"]


@pytest.mark.parametrize(
    "body",
    [
        {"use_beam_search": False}, {"length_penalty": 1}, {"include_reasoning": True}, {"echo": False},
        {"tools": []}, {"tool_choice": "none"}, {"response_format": {"type": "text"}}, {"store": False},
        {"top_logprobs": 0}, {"user": "u", "metadata": {"a": "b"}, "service_tier": "auto"},
        {"prompt_cache_key": "k", "prompt_cache_options": {"mode": "implicit"}, "safety_identifier": "s"},
    ],
)  # fmt: skip
def test_what_asks_for_nothing_is_accepted(http: TestClient, body: dict[str, object]) -> None:
    assert http.post("/v1/chat/completions", json={"messages": USER, **body}).status_code == 200


def test_text_parts_become_one_text(http: TestClient) -> None:
    parts = [{"type": "text", "text": "ab"}, {"type": "text", "text": "cd"}]
    answer = http.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": parts}]})
    assert answer.json()["choices"][0]["message"]["content"] == "AB\nCD"


def test_a_clients_own_answer_may_be_sent_back(http: TestClient) -> None:
    message = http.post("/v1/chat/completions", json={"messages": USER}).json()["choices"][0]["message"]
    called = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}],
    }
    answer = http.post("/v1/chat/completions", json={"messages": [*USER, message, called, *USER]})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("prompt", "param"),
    [
        (5, "prompt"), ({"a": 1}, "prompt"), ([], "prompt"), (["a", 1], "prompt[1]"), ([True], "prompt[0]"),
        ([1.5], "prompt[0]"), ([[1, "x"]], "prompt[0]"), (["a"] * 1025, "prompt"),
    ],
)  # fmt: skip
def test_prompts_of_other_kinds_are_refused(http: TestClient, prompt: object, param: str) -> None:
    answer = http.post("/v1/completions", json={"prompt": prompt})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


# ---------------------------------------------------------------- answers out


def test_no_tokens_asked_for_only_the_prompt_comes(http: TestClient) -> None:
    body = {"prompt": "abc", "max_tokens": 0, "echo": True, "logprobs": 1}
    answer = http.post("/v1/completions", json=body).json()
    choice = answer["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == ("abc", "length")
    assert choice["logprobs"]["tokens"] == ["a", "b", "c"]
    assert answer["usage"]["completion_tokens"] == 0
    streamed = events(http.post("/v1/completions", json={"prompt": "abc", "max_tokens": 0, "stream": True}))
    assert [c["text"] for e in streamed for c in e["choices"]] == [""]


def test_streamed_logprobs_and_ids_lose_no_token(http: TestClient) -> None:
    body = {"messages": USER, "stream": True, "logprobs": True, "top_logprobs": 1, "return_token_ids": True}
    chunks = events(http.post("/v1/chat/completions", json=body))
    assert chunks[0]["prompt_token_ids"] == [ord(c) for c in "hello"]
    choices = [c for chunk in chunks[1:] for c in chunk["choices"]]
    assert [e["token"] for c in choices for e in c["logprobs"]["content"]] == list("HELLO")
    assert [i for c in choices for i in c["token_ids"]] == [ord(c) for c in "HELLO"]


def test_streams_have_the_fields_of_the_specification(http: TestClient) -> None:
    body = {"messages": USER, "stream": True, "n": 2, "stream_options": {"include_usage": True}}
    chunks = events(http.post("/v1/chat/completions", json=body))
    for chunk in chunks:
        assert chunk["object"] == "chat.completion.chunk"
        assert {"id", "created", "model", "system_fingerprint", "usage"} <= chunk.keys()
        for choice in chunk["choices"]:
            assert {"index", "delta", "logprobs", "finish_reason"} <= choice.keys()
    assert [c["choices"][0]["delta"] for c in chunks[:2]] == [{"role": "assistant", "content": ""}] * 2
    reasons = [c["finish_reason"] for chunk in chunks for c in chunk["choices"] if c["finish_reason"]]
    assert reasons == ["length", "length"]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 15
    assert [c["usage"] for c in chunks[:-1]] == [None] * (len(chunks) - 1)


def test_errors_have_the_fields_of_the_specification(http: TestClient) -> None:
    long = http.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "x" * 100}]})
    unknown = http.post("/v1/chat/completions", json={"messages": USER, "nonsense": 1})
    route = http.get("/v1/nothing")
    for answer in (long, unknown, route):
        error = answer.json()["error"]
        assert error.keys() == {"message", "type", "param", "code"}
        assert error["code"] is None or isinstance(error["code"], str)
    assert long.json()["error"]["code"] == "context_length_exceeded"
    assert unknown.json()["error"]["code"] == "unknown_parameter"


def test_an_engine_that_dies_before_the_first_token_is_a_503(http: TestClient, engine: FakeEngine) -> None:
    engine.fail_after = 0
    for stream in (False, True):
        answer = http.post("/v1/chat/completions", json={"messages": USER, "stream": stream})
        assert answer.status_code == 500
    engine.alive = False
    for stream in (False, True):
        answer = http.post("/v1/chat/completions", json={"messages": USER, "stream": stream})
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"


def test_an_exception_in_a_stream_is_one_error_event(http: TestClient, engine: FakeEngine) -> None:
    engine.raise_after = 2
    chunks = events(http.post("/v1/chat/completions", json={"messages": USER, "stream": True}))
    assert "".join(c["choices"][0]["delta"]["content"] for c in chunks[:-1]) == "HE"
    assert "its log" in chunks[-1]["error"]["message"]
    assert engine.open_streams == 0
