"""`octavo serve` as a user meets it: real processes, the demo model, OpenAI's client, signals and deaths."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openai
import pytest

from octavo import LLM
from tests.integration.serving import Served, is_running, wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="NOT TESTED here: looks into /proc")

FRANCE = [{"role": "user", "content": "What is the capital of France?"}]
COUNT = [{"role": "user", "content": "Count from 1 to 10."}]
LONG = {"prompt": "Once", "max_tokens": 800, "ignore_eos": True, "temperature": 1, "stream": True}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("serve") / "log") as served:
        yield served


@pytest.fixture(scope="module")
def client(server: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.url, api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with LLM(kv_memory_bytes=64 << 20) as llm:
        yield llm


# ---------------------------------------------------------------- answers


def test_the_capital_of_france_streamed_and_whole(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="m", messages=FRANCE, temperature=0)
    text = whole.choices[0].message.content
    assert text is not None
    assert "Paris" in text
    assert whole.choices[0].finish_reason == "stop"
    options = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(model="m", messages=FRANCE, temperature=0, stream=True, stream_options=options)
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == text
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert chunks[-1].usage.prompt_tokens == whole.usage.prompt_tokens


def test_the_child_answers_as_the_inline_engine(client: openai.OpenAI, llm: LLM) -> None:
    from octavo import SamplingParams

    answer = client.chat.completions.create(model="m", messages=COUNT, temperature=1, seed=5, max_tokens=40)
    inline = llm.chat(COUNT, SamplingParams(temperature=1, seed=5, max_tokens=40), use_tqdm=False)[0].outputs[0]
    assert answer.choices[0].message.content == inline.text
    assert answer.choices[0].finish_reason == inline.finish_reason


def test_seeds_repeat_and_differ(client: openai.OpenAI) -> None:
    def ask(**fields: object) -> str:
        body = {"prompt": "The", "max_tokens": 24, "temperature": 1.5, **fields}
        return client.completions.create(model="m", **body).choices[0].text  # type: ignore[arg-type]

    assert ask(seed=1) == ask(seed=1)
    assert len({ask(seed=i) for i in range(4)}) > 1
    assert len({ask() for _ in range(4)}) > 1


def test_several_completions_of_a_prompt_differ_and_are_counted(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="m", prompt="The", n=4, max_tokens=16, temperature=1.5, seed=3)
    assert [c.index for c in answer.choices] == [0, 1, 2, 3]
    assert len({c.text for c in answer.choices}) > 1
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 64


@pytest.mark.parametrize("stream", [False, True])
def test_stop_strings_end_before_themselves_wherever_tokens_part(client: openai.OpenAI, stream: bool) -> None:
    whole = client.chat.completions.create(model="m", messages=FRANCE, temperature=0).choices[0].message.content
    assert whole is not None
    for begin in range(2, len(whole) - 4, 3):
        stop = whole[begin : begin + 4]
        answer = client.chat.completions.create(
            model="m", messages=FRANCE, temperature=0, stop=[stop], stream=stream, max_tokens=100
        )
        if stream:
            chunks = list(answer)
            text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
            reason = chunks[-1].choices[0].finish_reason
        else:
            text, reason = answer.choices[0].message.content, answer.choices[0].finish_reason
        assert (text, reason) == (whole[: whole.index(stop)], "stop")


def test_logprobs_of_answer_and_echoed_prompt(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="m", prompt="The capital", echo=True, logprobs=2, max_tokens=3)
    choice = answer.choices[0]
    assert choice.logprobs is not None
    assert choice.text.startswith("The capital")
    assert answer.usage is not None
    assert len(choice.logprobs.tokens) == answer.usage.total_tokens
    assert choice.logprobs.token_logprobs[0] is None
    assert all(value <= 0 for value in choice.logprobs.token_logprobs[1:])
    assert "".join(choice.logprobs.tokens[-3:]) == choice.text[len("The capital") :]
    chat = client.chat.completions.create(model="m", messages=FRANCE, logprobs=True, top_logprobs=3, temperature=0)
    content = chat.choices[0].logprobs.content  # type: ignore[union-attr]
    assert all(entry.top_logprobs[0].token == entry.token for entry in content)
    assert "".join(entry.token for entry in content).startswith(chat.choices[0].message.content or "?")


def test_limits_and_prompts_that_do_not_fit(client: openai.OpenAI, server: Served) -> None:
    answer = client.completions.create(model="m", prompt="The", max_tokens=5, extra_body={"ignore_eos": True})
    assert answer.usage is not None
    assert (answer.usage.completion_tokens, answer.choices[0].finish_reason) == (5, "length")
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="m", messages=[{"role": "user", "content": "word " * 5000}])
    assert refused.value.code == "context_length_exceeded"
    assert refused.value.param == "messages"
    for body in (b"{", b"[]", b'"x"', b'{"prompt": 5}', b'{"prompt": "a", "bogus": 1}', b'{"prompt": [99999999]}'):
        status, answer = server.ask("/v1/completions", body)
        assert status == 400
        assert answer["error"]["type"] == "invalid_request_error"


def test_32_clients_at_once_get_what_one_gets(client: openai.OpenAI, server: Served) -> None:
    def ask(seed: int) -> str:
        return (
            client.completions.create(model="m", prompt="The", max_tokens=20, seed=seed, temperature=1).choices[0].text
        )

    alone = [ask(seed) for seed in range(8)]
    with ThreadPoolExecutor(32) as pool:
        together = list(pool.map(ask, [i % 8 for i in range(32)]))
    assert together == alone * 4


@pytest.mark.parametrize("stream", [False, True])
def test_leaving_frees_the_engine(server: Served, stream: bool) -> None:
    aborted = _aborted(server)
    if stream:
        events = server.events(LONG)
        next(events)
        wait_for(lambda: server.metric("num_requests_running") == 1)
        events.close()
    else:
        connection = server.send("/v1/completions", {**LONG, "stream": False})
        wait_for(lambda: server.metric("num_requests_running") == 1)
        connection.close()
    wait_for(lambda: server.metric("num_requests_running") == 0)
    assert _aborted(server) == aborted + 1


def _aborted(server: Served) -> float:
    text = server.ask("/metrics")[1]
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if 'finish_reason="abort"' in line)


def test_metrics_count_what_was_done(server: Served) -> None:
    before = {name: server.metric(name) for name in ("prompt_tokens_total", "generation_tokens_total")}
    status, answer = server.ask("/v1/completions", {"prompt": "The", "max_tokens": 7, "ignore_eos": True})
    assert status == 200
    assert server.metric("generation_tokens_total") == before["generation_tokens_total"] + 7
    assert server.metric("prompt_tokens_total") == before["prompt_tokens_total"] + answer["usage"]["prompt_tokens"]
    assert server.metric("engine_up") == 1
    assert server.metric("num_requests_waiting") == 0
    assert server.metric("kv_cache_usage_ratio") <= 1
    assert '"POST /v1/completions HTTP/1.1" 200' in server.log


def test_a_stream_begins_before_its_end_and_splits_by_tokens(server: Served) -> None:
    got = list(server.events({**LONG, "max_tokens": 60, "return_token_ids": True}))
    ids = [i for e in got for i in e["choices"][0]["token_ids"]]
    assert len(ids) == 60
    assert len(got) > 1  # one each for a client that keeps up; a busy machine merges some


# ---------------------------------------------------------------- beginnings and ends


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_answers_finish_and_takes_no_more(tmp_path: Path, number: signal.Signals) -> None:
    with Served(tmp_path / "log") as server:
        engine = server.engine_pid
        stream = server.events(LONG)
        got = [next(stream)]
        server.signal(number)
        wait_for(lambda: "Ending: no new connections" in server.log)
        with pytest.raises(ConnectionRefusedError):
            server.ask("/health")
        got += stream
        assert got[-1]["choices"][0]["finish_reason"] == "length"
        assert server.ended() == (0 if number == signal.SIGTERM else 130)
        wait_for(lambda: not is_running(engine))
        assert "Traceback" not in server.log


def test_answers_that_outlast_the_drain_end_in_an_error(tmp_path: Path) -> None:
    with Served(tmp_path / "log", "--drain-timeout", "0") as server:
        stream = server.events({**LONG, "n": 32})
        next(stream)
        server.signal(signal.SIGTERM)
        assert "closed" in list(stream)[-1]["error"]["message"]
        assert server.ended() == 0
        assert "Traceback" not in server.log


def test_the_engines_death_ends_streams_and_flips_health(tmp_path: Path) -> None:
    with Served(tmp_path / "log") as server:
        assert server.ask("/health")[0] == 200
        streams = [server.events({**LONG, "n": 2}) for _ in range(3)]
        for stream in streams:
            next(stream)
        os.kill(server.engine_pid, signal.SIGKILL)
        for stream in streams:
            rest = list(stream)
            assert "killed" in rest[-1]["error"]["message"]
            assert sum("error" in event for event in rest) == 1
        assert server.ask("/health")[0] == 503
        assert server.metric("engine_up") == 0
        for body in (LONG, {**LONG, "stream": False}):
            status, answer = server.ask("/v1/completions", body)
            assert status == 503
            assert answer["error"]["type"] == "engine_dead_error"
        server.signal(signal.SIGTERM)
        assert server.ended() == 0
        assert "Traceback" not in server.log


def test_the_servers_death_ends_the_engine(tmp_path: Path) -> None:
    with Served(tmp_path / "log") as server:
        engine = server.engine_pid
        with contextlib.closing(server.events(LONG)) as stream:
            next(stream)
            server.signal(signal.SIGKILL)
            wait_for(lambda: not is_running(engine))


def test_vllms_module_serves_and_a_restart_repeats(tmp_path: Path, server: Served) -> None:
    body = {"prompt": "The", "max_tokens": 24, "temperature": 1, "seed": 9}
    options = ("--host", "127.0.0.1", "--served-model-name", "demo", "--api-key", "k", "--tensor-parallel-size", "1")
    with Served(tmp_path / "log", *options, module="octavo.entrypoints.openai.api_server") as other:
        assert other.ask("/v1/completions", body)[0] == 401
        with openai.OpenAI(base_url=other.url, api_key="k", max_retries=0) as client:
            assert [m.id for m in client.models.list()] == ["demo"]
            text = client.completions.create(model="demo", **body).choices[0].text  # type: ignore[arg-type]
    assert text == server.ask("/v1/completions", body)[1]["choices"][0]["text"]


@pytest.mark.soak
def test_an_idle_server_sleeps(tmp_path: Path) -> None:
    """Under one percent of a core, both processes together, after it has worked."""
    import time

    def seconds(pid: int) -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    with Served(tmp_path / "log") as server:
        assert server.ask("/v1/completions", {"prompt": "The", "max_tokens": 50})[0] == 200
        time.sleep(2)
        pids = (server.process.pid, server.engine_pid)
        before = sum(map(seconds, pids))
        time.sleep(20)
        assert sum(map(seconds, pids)) - before < 0.2
