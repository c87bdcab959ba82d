"""TGI's native dialect over HTTP: answers, streams, errors and what huggingface_hub's InferenceClient makes of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import OverloadedError, ValidationError
from starlette.testclient import TestClient

from octavo.base import errors
from octavo.server.app import create_app
from octavo.server.settings import ServerSettings
from tests.server.fake_engine import FakeEngine
from tests.server.test_app import real_server


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def http(engine: FakeEngine) -> Iterator[TestClient]:
    with TestClient(create_app(engine), raise_server_exceptions=False) as client:
        yield client


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n") if line]


def test_generate_answers_an_object_and_the_root_a_list(http: TestClient) -> None:
    body = {"inputs": "hello", "parameters": {"max_new_tokens": 3}}
    assert http.post("/generate", json=body).json() == {"generated_text": "HEL"}
    for root in ("/", "/v1", "/v1/"):
        assert http.post(root, json=body).json() == [{"generated_text": "HEL"}]


def test_details_name_tokens_seed_and_reason(http: TestClient) -> None:
    parameters = {"details": True, "decoder_input_details": True, "seed": 7, "do_sample": True, "top_n_tokens": 1}
    answer = http.post("/generate", json={"inputs": "ab", "parameters": parameters})
    details = answer.json()["details"]
    assert details["finish_reason"] == "length"
    assert (details["generated_tokens"], details["seed"]) == (2, 7)
    assert details["tokens"][0] == {"id": 65, "text": "A", "logprob": -0.25, "special": False}
    assert details["prefill"] == [{"id": 97, "text": "a", "logprob": None}, {"id": 98, "text": "b", "logprob": -0.5}]
    assert details["top_tokens"] == [[token] for token in details["tokens"]]
    assert answer.headers["x-prompt-tokens"] == "2"
    assert answer.headers["x-generated-tokens"] == "2"


def test_stream_has_one_event_per_token_and_ends_with_the_whole_text(http: TestClient) -> None:
    body = {"inputs": "hey", "parameters": {"details": True, "return_full_text": True}}
    seen = events(http.post("/generate_stream", json=body).text)
    assert [event["index"] for event in seen] == [1, 2, 3]
    assert [event["token"]["text"] for event in seen] == ["H", "E", "Y"]
    assert [event["generated_text"] for event in seen] == [None, None, "heyHEY"]
    assert seen[-1]["details"] == {"finish_reason": "length", "generated_tokens": 3, "seed": None, "input_length": 3}
    assert http.post("/", json={**body, "stream": True}).text.startswith("data: ")


@pytest.mark.parametrize(("stop_reason", "said"), [(None, "eos_token"), (7, "eos_token"), ("x", "stop_sequence")])
def test_why_an_answer_ended(http: TestClient, engine: FakeEngine, stop_reason: Any, said: str) -> None:
    engine.finish_reason, engine.stop_reason = "stop", stop_reason
    body = {"inputs": "ab", "parameters": {"details": True}}
    assert http.post("/generate", json=body).json()["details"]["finish_reason"] == said
    assert events(http.post("/generate_stream", json=body).text)[-1]["details"]["finish_reason"] == said


def test_best_of_returns_the_best_and_the_others(http: TestClient) -> None:
    parameters = {"best_of": 2, "do_sample": True, "details": True}
    details = http.post("/generate", json={"inputs": "ab", "parameters": parameters}).json()["details"]
    assert [other["generated_text"] for other in details["best_of_sequences"]] == ["AB"]


@pytest.mark.parametrize(
    ("parameters", "greedy"), [(None, False), ({}, True), ({"temperature": 0.5}, False), ({"top_k": 5}, False)]
)
def test_when_tokens_are_drawn(http: TestClient, engine: FakeEngine, parameters: object, greedy: bool) -> None:
    http.post("/generate", json={"inputs": "a"} | ({} if parameters is None else {"parameters": parameters}))
    assert engine.last_sampling.greedy is greedy
    assert (engine.last_sampling.seed is None) is greedy


def test_parameters_reach_the_sampler(http: TestClient, engine: FakeEngine) -> None:
    parameters = {"temperature": 0.7, "top_p": 0.9, "top_k": 4, "repetition_penalty": 1.1, "frequency_penalty": 0.5}
    parameters |= {"stop": ["x"], "stop_sequences": ["y"], "max_new_tokens": 5, "truncate": 2}
    answer = http.post("/generate", json={"inputs": "abcd", "parameters": parameters})
    assert answer.json() == {"generated_text": "CD"}
    sampling = engine.last_sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.7, 0.9, 4)
    assert (sampling.repetition_penalty, sampling.frequency_penalty) == (1.1, 0.5)
    assert (sampling.stop_strings, sampling.include_stop_str_in_output) == (("x", "y"), True)


@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ({"temperature": 0}, "temperature"),
        ({"best_of": 2}, "best_of"),
        ({"best_of": 2, "do_sample": True, "seed": 1}, "seed"),
        ({"best_of": 3, "do_sample": True}, "best_of"),
        ({"top_n_tokens": 6}, "top_n_tokens"),
        ({"stop": list("abcde")}, "stop"),
        ({"watermark": True}, "watermark"),
        ({"typical_p": 0.9}, "typical_p"),
        ({"grammar": {"type": "regex", "value": "a"}}, "grammar"),
        ({"adapter_id": "x"}, "adapter_id"),
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"top_p": 1.5}, "top_p"),
        ({"nonsense": 1}, "nonsense"),
        ({"truncate": 0}, "truncate"),
    ],
)
def test_what_is_refused_is_a_validation_error_by_name(http: TestClient, parameters: object, word: str) -> None:
    answer = http.post("/generate", json={"inputs": "a", "parameters": parameters})
    assert answer.status_code == 422
    assert answer.json()["error_type"] == "validation"
    assert word in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "word"),
    [({"inputs": ""}, "inputs"), ({"inputs": 5}, "inputs"), ({}, "inputs"), ({"inputs": "x" * 100}, "100 tokens")],
)
def test_inputs_are_checked(http: TestClient, body: object, word: str) -> None:
    answer = http.post("/generate", json=body)
    assert (answer.status_code, answer.json()["error_type"]) == (422, "validation")
    assert word in answer.json()["error"]


def test_streams_take_no_prefill_details(http: TestClient) -> None:
    body = {"inputs": "a", "parameters": {"decoder_input_details": True}}
    assert http.post("/generate_stream", json=body).status_code == 422


def test_errors_of_the_engine_have_tgis_kinds(http: TestClient, engine: FakeEngine) -> None:
    engine.fail_after = 0
    answer = http.post("/generate", json={"inputs": "ab"})
    assert (answer.status_code, answer.json()["error_type"]) == (424, "generation")
    engine.fail_after = 1
    last = events(http.post("/generate_stream", json={"inputs": "ab"}).text)[-1]
    assert last["error_type"] == "generation"


def test_keys_guard_it_with_a_bare_401(engine: FakeEngine) -> None:
    with TestClient(create_app(engine, ServerSettings(api_keys=("one",)))) as client:
        refused = client.post("/", json={"inputs": "a"})
        assert (refused.status_code, refused.content) == (401, b"")
        assert client.post("/", json={"inputs": "a"}, headers={"Authorization": "Bearer one"}).status_code == 200
        assert client.get("/info").status_code == 200


def test_info_and_health(http: TestClient, engine: FakeEngine) -> None:
    for path in ("/info", "/v1/info"):
        info = http.get(path).json()
        assert (info["model_id"], info["max_total_tokens"], info["max_input_tokens"]) == ("fake", 64, 63)
    assert http.get("/v1/health").status_code == 200
    engine.alive = False
    assert http.get("/ping").status_code == 503


def test_tokenize_gives_ranges(http: TestClient) -> None:
    tokens = http.post("/tokenize", json={"inputs": "ab"}).json()
    assert tokens[1] == {"id": 98, "text": "b", "start": 1, "stop": 2}
    chat = http.post("/chat_tokenize", json={"messages": [{"role": "user", "content": "ab"}]}).json()
    assert chat == {"tokenize_response": tokens, "templated_text": "ab"}


def test_invocations_take_all_three_bodies(http: TestClient) -> None:
    assert http.post("/invocations", json={"inputs": "a"}).json() == [{"generated_text": "A"}]
    chat = http.post("/invocations", json={"messages": [{"role": "user", "content": "b"}]}).json()
    assert chat["choices"][0]["message"]["content"] == "B"
    assert http.post("/invocations", json={"prompt": "c"}).json()["choices"][0]["text"] == "C"
    assert http.post("/invocations", json={}).status_code == 400


def test_answers_conform_to_the_published_schema(http: TestClient, shared_data: Any) -> None:
    """Every required field of TGI's OpenAPI document is there, and nothing that it does not have."""
    schemas = json.loads((shared_data / "specs/tgi_openapi.json").read_text())["components"]["schemas"]
    parameters = {"details": True, "decoder_input_details": True, "top_n_tokens": 1, "best_of": 2, "do_sample": True}
    answer = http.post("/generate", json={"inputs": "ab", "parameters": parameters}).json()
    stream = events(http.post("/generate_stream", json={"inputs": "ab", "parameters": {"details": True}}).text)
    fits(schemas, "GenerateResponse", answer)
    for event in stream:
        fits(schemas, "StreamResponse", event)
    info = http.get("/info").json()
    assert set(schemas["Info"]["required"]) <= set(info)
    for token in http.post("/tokenize", json={"inputs": "ab"}).json():
        fits(schemas, "SimpleToken", token)
    fits(schemas, "ErrorResponse", http.post("/generate", json={"inputs": ""}).json())


def fits(schemas: dict[str, Any], name: str, value: dict[str, Any]) -> None:
    schema = schemas[name]
    missing = set(schema["required"]) - set(value)
    unknown = set(value) - set(schema["properties"])
    assert not missing and not unknown, (name, missing, unknown)
    for field, rule in schema["properties"].items():
        inner = rule.get("$ref") or next((r["$ref"] for r in rule.get("allOf", ())), "")
        of_list = rule.get("items", {}).get("$ref", "")
        target = (inner or of_list).rpartition("/")[2]
        if value.get(field) is None or "properties" not in schemas.get(target, {}):
            continue
        for item in value[field] if of_list else [value[field]]:
            fits(schemas, target, item)


# ---------------------------------------------------------------- the real client


@pytest.fixture
def url(engine: FakeEngine) -> Iterator[str]:
    with real_server(engine) as address:
        yield address


@pytest.mark.parametrize("base", ["", "/", "/v1", "/v1/"])
def test_inference_client_generates_text(url: str, base: str) -> None:
    client = InferenceClient(base_url=url + base)
    assert client.text_generation("hello", max_new_tokens=3) == "HEL"
    answer = client.text_generation("hello", details=True, do_sample=True, seed=3, stop=[])
    assert answer.generated_text == "HELLO"
    assert answer.details.seed == 3
    assert [token.text for token in answer.details.tokens] == list("HELLO")
    assert "".join(client.text_generation("hello", stream=True)) == "HELLO"
    last = list(client.text_generation("hello", stream=True, details=True))[-1]
    assert (last.generated_text, last.details.finish_reason) == ("HELLO", "length")


@pytest.mark.parametrize("base", ["", "/v1"])
def test_inference_client_chats(url: str, base: str) -> None:
    client = InferenceClient(base_url=url + base, api_key="anything")
    messages = [{"role": "user", "content": "hello"}]
    assert client.chat_completion(messages).choices[0].message.content == "HELLO"
    pieces = [c.choices[0].delta.content or "" for c in client.chat_completion(messages, stream=True) if c.choices]
    assert "".join(pieces) == "HELLO"


def test_inference_client_raises_its_own_errors(url: str, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    client = InferenceClient(base_url=url)
    with pytest.raises(ValidationError, match="typical_p"):
        client.text_generation("hello", typical_p=0.5)

    def full(*_: object, **__: object) -> object:
        raise errors.OverloadedError("Too many requests wait.")

    monkeypatch.setattr(engine, "generate", full)
    with pytest.raises(OverloadedError, match="Too many"):
        client.text_generation("hello")
