"""The OpenAI dialect through OpenAI's own client, over a fake engine."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest
from starlette.testclient import TestClient

from octavo.server.app import create_app
from octavo.server.settings import ServerSettings
from tests.server.fake_engine import FakeEngine


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def http(engine: FakeEngine) -> Iterator[TestClient]:
    with TestClient(create_app(engine, ServerSettings())) as client:
        yield client


@pytest.fixture
def client(http: TestClient) -> openai.OpenAI:
    return openai.OpenAI(base_url="http://testserver/v1", api_key="anything", http_client=http, max_retries=0)


USER = [{"role": "user", "content": "hello"}]


def test_chat_answers_with_usage(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="whatever", messages=USER)
    assert answer.choices[0].message.content == "HELLO"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "length"
    assert answer.model == "whatever"
    assert answer.system_fingerprint == "fp-test"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (5, 5, 10)
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 2


def test_chat_streams_role_text_reason_usage(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(model="m", messages=USER, stream=True, stream_options={"include_usage": True})
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "HELLO"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "length"
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 5
    assert all(c.usage is None for c in chunks[:-1])
    assert len({c.id for c in chunks}) == 1


def test_chat_logprobs_carry_bytes_and_alternatives(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="m", messages=USER, logprobs=True, top_logprobs=1)
    assert answer.choices[0].logprobs is not None
    first = answer.choices[0].logprobs.content[0]
    assert (first.token, first.bytes, first.logprob) == ("H", [72], -0.25)
    assert first.top_logprobs[0].token == "H"


def test_n_completions_are_indexed(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="m", messages=USER, n=3)
    assert [c.index for c in answer.choices] == [0, 1, 2]
    assert {c.message.content for c in answer.choices} == {"HELLO"}
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 15


def test_body_overrides_the_models_defaults(client: openai.OpenAI, engine: FakeEngine) -> None:
    client.chat.completions.create(model="m", messages=USER)
    assert engine.last_sampling.temperature == 0.5
    assert engine.last_sampling.max_tokens is None
    client.chat.completions.create(
        model="m", messages=USER, temperature=0, max_completion_tokens=2, seed=7, stop=["x"], logit_bias={"5": -100},
        extra_body={"top_k": 4, "min_p": 0.1, "ignore_eos": True, "bad_words": ["no"], "repetition_penalty": 1.1},
    )  # fmt: skip
    sampling = engine.last_sampling
    assert (sampling.temperature, sampling.max_tokens, sampling.seed, sampling.stop_strings) == (0, 2, 7, ("x",))
    assert (sampling.top_k, sampling.min_p, sampling.ignore_eos, sampling.repetition_penalty) == (4, 0.1, True, 1.1)
    assert sampling.logit_bias == {5: -100.0}


def test_completion_of_several_prompts(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="m", prompt=["ab", "cd"], n=2, max_tokens=2)
    assert [(c.index, c.text) for c in answer.choices] == [(0, "AB"), (1, "AB"), (2, "CD"), (3, "CD")]


def test_completion_takes_token_ids(client: openai.OpenAI) -> None:
    assert client.completions.create(model="m", prompt=[104, 105]).choices[0].text == "HI"
    answer = client.completions.create(model="m", prompt=[[104], [105]])
    assert [c.text for c in answer.choices] == ["H", "I"]


def test_completion_streams_all_choices(client: openai.OpenAI) -> None:
    texts = {0: "", 1: ""}
    for chunk in client.completions.create(model="m", prompt=["abc", "xyz"], stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == {0: "ABC", 1: "XYZ"}


def test_echo_with_logprobs_covers_the_prompt(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="m", prompt="abc", echo=True, logprobs=1, max_tokens=1)
    choice = answer.choices[0]
    assert choice.text == "abcA"
    assert choice.logprobs is not None
    assert choice.logprobs.tokens == ["a", "b", "c", "A"]
    assert choice.logprobs.token_logprobs == [None, -0.5, -0.5, -0.25]
    assert choice.logprobs.text_offset == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"messages": USER, "temperature": 3}, "temperature", "between 0 and 2"),
        ({"messages": USER, "nonsense": 1}, "nonsense", "Unrecognized request argument"),
        ({"model": "m"}, "messages", "Missing required parameter"),
        ({"messages": [{"role": "user", "content": "x" * 100}]}, "messages", "100 tokens"),
        ({"messages": USER, "tools": [{"type": "function"}]}, "tools[0]", "with a function"),
        ({"messages": USER, "tools": [{"type": "x", "function": {"name": "f"}}]}, "tools[0]", "type 'function'"),
        ({"messages": USER, "tools": ["f"]}, "tools[0]", "an object"),
        ({"messages": USER, "tools": "f"}, "tools", "a list"),
        ({"messages": USER, "tools": [{"function": {"name": ""}}]}, "tools[0].function.name", "a name"),
        (
            {"messages": USER, "tools": [{"function": {"name": "f", "parameters": "x"}}]},
            "tools[0].function.parameters",
            "JSON schema",
        ),
        ({"messages": USER, "functions": [{"name": "f"}]}, "functions", "use tools"),
        ({"messages": USER, "tool_choice": "required"}, "tool_choice", "cannot be forced"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "messages[0].tool_calls[0].function", "with name"),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
            "messages[0].tool_calls[0].function.arguments",
            "not valid JSON",
        ),
        ({"messages": USER, "response_format": {"type": "json_object"}}, "response_format", "not supported"),
        ({"messages": USER, "top_logprobs": 2}, "top_logprobs", "needs logprobs"),
        ({"messages": []}, "messages", "empty"),
        ({"messages": USER, "n": 0}, "n", "from 1"),
    ],
)
def test_bad_chat_bodies_are_refused_by_name(http: TestClient, body: dict[str, object], param: str, words: str) -> None:
    answer = http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == param
    assert words in error["message"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'"x"', b"\xff"])
def test_a_body_that_is_no_json_object_is_a_400(http: TestClient, content: bytes) -> None:
    answer = http.post("/v1/chat/completions", content=content)
    assert answer.status_code == 400
    assert "JSON" in answer.json()["error"]["message"]


def test_refused_streams_are_a_400_not_an_event(http: TestClient, engine: FakeEngine) -> None:
    body = {"messages": [{"role": "user", "content": "x" * 100}], "stream": True}
    answer = http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400
    assert engine.open_streams == 0


def test_a_failing_engine_ends_the_stream_with_one_error(http: TestClient, engine: FakeEngine) -> None:
    engine.fail_after = 2
    answer = http.post("/v1/chat/completions", json={"messages": USER, "stream": True})
    events = [line for line in answer.text.split("\n\n") if line]
    assert '"error"' in events[-2]
    assert events[-1] == "data: [DONE]"
    assert sum('"error"' in event for event in events) == 1
    plain = http.post("/v1/chat/completions", json={"messages": USER})
    assert plain.status_code == 500
    assert "engine process" in plain.json()["error"]["message"]


def test_models_lists_what_is_served(client: openai.OpenAI, http: TestClient) -> None:
    assert [m.id for m in client.models.list()] == ["fake"]
    assert client.models.retrieve("fake").id == "fake"
    assert http.get("/v1/models/other").status_code == 404
