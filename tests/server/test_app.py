"""Health, metrics, keys, the page, errors of HTTP itself, and what happens when clients leave."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import uvicorn
from starlette.testclient import TestClient

from octavo.server.app import create_app
from octavo.server.settings import ServerSettings
from tests.server.fake_engine import FakeEngine

USER = [{"role": "user", "content": "hello"}]


@contextmanager
def real_server(engine: FakeEngine) -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(engine), log_config=None, ws="none", lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


def wait_for(condition: object, seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.01)
    return False


def test_health_follows_the_engine() -> None:
    engine = FakeEngine()
    with TestClient(create_app(engine)) as http:
        assert http.get("/health").status_code == 200
        engine.alive = False
        answer = http.get("/health")
        assert answer.status_code == 503
        assert "engine" in answer.json()["error"]["message"]
    assert engine.closed == 1


def test_metrics_count_tokens_and_survive_a_dead_engine() -> None:
    engine = FakeEngine()
    with TestClient(create_app(engine)) as http:
        http.post("/v1/chat/completions", json={"messages": USER})
        text = http.get("/metrics").text
        assert 'octavo_generation_tokens_total{model_name="fake"} 5.0' in text
        assert 'octavo_requests_total{finish_reason="length",model_name="fake"} 1.0' in text
        assert 'octavo_engine_up{model_name="fake"} 1.0' in text
        assert "# TYPE octavo_engine_steps_total counter" in text
        engine.alive = False
        assert 'octavo_engine_up{model_name="fake"} 0.0' in http.get("/metrics").text


def test_keys_guard_the_api_and_nothing_else() -> None:
    with TestClient(create_app(FakeEngine(), ServerSettings(api_keys=("one", "two")))) as http:
        refusal = http.get("/v1/models")
        assert refusal.status_code == 401
        assert refusal.headers["www-authenticate"] == "Bearer"
        assert http.get("/v1/models", headers={"Authorization": "Bearer three"}).status_code == 401
        assert http.get("/v1/models", headers={"Authorization": "Bearer two"}).status_code == 200
        assert http.get("/health").status_code == 200
        assert http.get("/").status_code == 200


def test_pages_of_other_origins_may_ask() -> None:
    asked = {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    with TestClient(create_app(FakeEngine(), ServerSettings(api_keys=("one",)))) as http:
        preflight = http.options("/v1/chat/completions", headers=asked)
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == "*"
        assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
        refusal = http.get("/v1/models", headers={"Origin": "https://app.example"})
        assert refusal.status_code == 401
        assert refusal.headers["access-control-allow-origin"] == "*"


def test_origins_can_be_limited() -> None:
    for origins, allowed in ((("https://a.example",), True), ((), False)):
        with TestClient(create_app(FakeEngine(), ServerSettings(cors_origins=origins))) as http:
            answer = http.get("/v1/models", headers={"Origin": "https://a.example"})
            assert ("access-control-allow-origin" in answer.headers) is allowed
            assert "access-control-allow-origin" not in http.get("/", headers={"Origin": "https://b.example"}).headers


def test_page_is_served_under_a_strict_policy() -> None:
    with TestClient(create_app(FakeEngine())) as http:
        for path in ("/", "/app.js", "/markdown.js", "/style.css", "/icon.svg"):
            answer = http.get(path)
            assert answer.status_code == 200
            assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "innerHTML" not in http.get("/app.js").text + http.get("/markdown.js").text


def test_unknown_routes_and_methods_have_the_error_shape() -> None:
    with TestClient(create_app(FakeEngine())) as http:
        missing = http.get("/v1/nothing")
        assert missing.status_code == 404
        assert "/v1/nothing" in missing.json()["error"]["message"]
        assert http.post("/v1/chat/completions/", json={"messages": USER}).status_code == 404
        wrong = http.get("/v1/chat/completions")
        assert wrong.status_code == 405
        assert wrong.headers["allow"] == "POST"
        assert wrong.json()["error"]["type"] == "invalid_request_error"


def test_bodies_beyond_the_limit_are_refused() -> None:
    with TestClient(create_app(FakeEngine(), ServerSettings(max_body_bytes=100))) as http:
        answer = http.post("/v1/chat/completions", json={"messages": [{"role": "user", "content": "x" * 200}]})
        assert answer.status_code == 413


def test_long_texts_are_tokenized_beside_the_event_loop() -> None:
    engine = FakeEngine()
    with TestClient(create_app(engine)) as http:
        long = "x" * 50_000
        for path, short, asked in (
            ("completions", {"prompt": "x"}, {"prompt": long}),
            ("chat/completions", {"messages": USER}, {"messages": [{"role": "user", "content": long}]}),
        ):
            engine.encoded_in.clear()
            assert http.post(f"/v1/{path}", json=short).status_code == 200
            assert http.post(f"/v1/{path}", json=asked).json()["error"]["code"] == "context_length_exceeded"
            loop, aside = engine.encoded_in
            assert loop is not aside


def test_leaving_a_stream_closes_it_in_the_engine() -> None:
    engine = FakeEngine(delay_s=0.02)
    with real_server(engine) as url:
        body = {"messages": [{"role": "user", "content": "x" * 30}], "stream": True}
        with httpx2.stream("POST", f"{url}/v1/chat/completions", json=body) as answer:
            lines = answer.iter_lines()
            next(lines)
            assert engine.open_streams == 1
        assert wait_for(lambda: engine.open_streams == 0)
        assert 'octavo_requests_total{finish_reason="abort",model_name="fake"} 1.0' in httpx2.get(f"{url}/metrics").text


def test_leaving_before_the_answer_closes_it_in_the_engine() -> None:
    engine = FakeEngine(delay_s=0.05)

    async def leave(url: str) -> None:
        async with httpx2.AsyncClient() as client:
            body = {"messages": [{"role": "user", "content": "x" * 30}]}
            task = asyncio.create_task(client.post(f"{url}/v1/chat/completions", json=body))
            while not engine.started:  # the engine lives in another thread
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    with real_server(engine) as url:
        asyncio.run(leave(url))
        assert wait_for(lambda: engine.open_streams == 0)
