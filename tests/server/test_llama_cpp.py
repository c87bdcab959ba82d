"""llama.cpp's native API: completions whole and streamed, tokens and texts, properties, refusals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from octavo.server.app import create_app
from tests.server.fake_engine import FakeEngine


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def http(engine: FakeEngine) -> Iterator[TestClient]:
    with TestClient(create_app(engine), raise_server_exceptions=False) as client:
        yield client


def test_a_completion(http: TestClient) -> None:
    answer = http.post("/completion", json={"prompt": "hello", "n_predict": 3, "return_tokens": True}).json()
    assert (answer["content"], answer["tokens"], answer["stop"]) == ("HEL", [72, 69, 76], True)
    assert (answer["stop_type"], answer["tokens_predicted"], answer["tokens_evaluated"]) == ("limit", 3, 5)
    assert (answer["timings"]["cache_n"], answer["timings"]["prompt_n"], answer["timings"]["predicted_n"]) == (2, 3, 3)
    assert answer["generation_settings"]["n_predict"] == 3
    assert answer["prompt"] == "hello"


def test_a_stream_ends_with_the_facts(http: TestClient) -> None:
    text = http.post("/completions", json={"prompt": "hey", "stream": True}).text
    events = [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n") if line]
    assert [event["content"] for event in events] == ["H", "E", "Y", ""]
    assert [event["stop"] for event in events] == [False, False, False, True]
    assert events[-1]["tokens_predicted"] == 3


def test_prompts_of_all_forms(http: TestClient) -> None:
    for prompt in ([104, 105], "hi", ["h", 105], {"prompt_string": "hi"}):
        assert http.post("/completion", json={"prompt": prompt}).json()["content"] == "HI"
    several = http.post("/completion", json={"prompt": ["ab", "cd"]}).json()
    assert [(r["index"], r["content"]) for r in several] == [(0, "AB"), (1, "CD")]
    mixed = http.post("/completion", json={"prompt": ["ab", [99, 100]], "n_cmpl": 2}).json()
    assert [r["content"] for r in mixed] == ["AB", "AB", "CD", "CD"]


def test_controls_reach_the_sampler(http: TestClient, engine: FakeEngine) -> None:
    http.post("/completion", json={"prompt": "a"})
    sampling = engine.last_sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p) == (0.5, 40, 0.95, 0.05)
    assert sampling.max_tokens is None
    body = {"prompt": "a", "temperature": -1, "seed": -1, "repeat_penalty": 1.1, "stop": ["x"], "mirostat": 0}
    http.post("/completion", json=body | {"logit_bias": [[5, 1.5], ["b", False]], "id_slot": 3, "typical_p": 1.0})
    sampling = engine.last_sampling
    assert (sampling.temperature, sampling.seed, sampling.repetition_penalty) == (0, None, 1.1)
    assert sampling.logit_bias == {5: 1.5, 98: -100.0}


def test_probabilities(http: TestClient) -> None:
    answer = http.post("/completion", json={"prompt": "a", "n_probs": 1}).json()
    first = answer["completion_probabilities"][0]
    assert (first["id"], first["token"], first["bytes"], first["logprob"]) == (65, "A", [65], -0.25)
    assert first["top_logprobs"][0]["id"] == 65


def test_nothing_is_generated_where_nothing_is_asked(http: TestClient) -> None:
    answer = http.post("/completion", json={"prompt": "abc", "n_predict": 0}).json()
    assert (answer["content"], answer["tokens_predicted"]) == ("", 0)


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ({}, 400, "prompt"),
        ({"prompt": True}, 400, "prompt"),
        ({"prompt": []}, 400, "prompt"),
        ({"prompt": "a", "nonsense": 1}, 400, "nonsense"),
        ({"prompt": "a", "grammar": "root ::= x"}, 501, "grammar"),
        ({"prompt": "a", "json_schema": {}}, 501, "json_schema"),
        ({"prompt": "a", "mirostat": 2}, 501, "mirostat"),
        ({"prompt": "a", "samplers": ["top_k"]}, 501, "samplers"),
        ({"prompt": "a", "repeat_penalty": 1.1, "repeat_last_n": 64}, 501, "repeat_last_n"),
        ({"prompt": "a", "logit_bias": [[1]]}, 400, "logit_bias"),
        ({"prompt": "x" * 100}, 400, "100 tokens"),
    ],
)
def test_what_is_refused_is_named(http: TestClient, body: dict[str, Any], status: int, word: str) -> None:
    answer = http.post("/completion", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, status)
    assert word in answer.json()["error"]["message"]


def test_tokenize_speaks_three_dialects(http: TestClient) -> None:
    assert http.post("/tokenize", json={"content": "ab"}).json() == {"tokens": [97, 98]}
    pieces = http.post("/tokenize", json={"content": "a", "with_pieces": True}).json()
    assert pieces == {"tokens": [{"id": 97, "piece": "a"}]}
    ours = http.post("/tokenize", json={"prompt": "ab", "return_token_strs": True}).json()
    assert ours == {"count": 2, "max_model_len": 64, "tokens": [97, 98], "token_strs": ["a", "b"]}
    chat = http.post("/tokenize", json={"messages": [{"role": "user", "content": "ab"}]}).json()
    assert chat["tokens"] == [97, 98]
    assert http.post("/tokenize", json={"inputs": "a"}).json()[0]["id"] == 97
    assert http.post("/tokenize", json={"content": 5}).json()["error"]["type"] == "invalid_request_error"
    assert http.post("/tokenize", json={"inputs": 5}).json()["error_type"] == "validation"
    assert http.post("/tokenize", json={}).json()["error"]["param"] == "prompt"


def test_detokenize_answers_under_both_names(http: TestClient) -> None:
    assert http.post("/detokenize", json={"tokens": [97, 98]}).json() == {"prompt": "ab", "content": "ab"}
    for bad in ({}, {"tokens": "a"}, {"tokens": [True]}, {"tokens": [-1]}, {"tokens": [1 << 40]}):
        assert http.post("/detokenize", json=bad).status_code == 400


def test_template_and_properties(http: TestClient) -> None:
    body = {"messages": [{"role": "user", "content": "ab"}]}
    assert http.post("/apply-template", json=body).json() == {"prompt": "ab"}
    props = http.get("/props").json()
    assert props["default_generation_settings"]["n_ctx"] == 64
    assert props["model_alias"] == "fake"
    slots = http.get("/slots")
    assert (slots.status_code, slots.json()["error"]["type"]) == (501, "not_supported_error")
    assert http.post("/infill", json={}).status_code == 501
