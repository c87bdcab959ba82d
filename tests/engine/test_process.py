"""The engine process: equal to the engine inline, and every way in which it can end."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from octavo.base.config import AsyncEngineArgs, EngineArgs
from octavo.base.errors import EngineDeadError, ModelFormatError, ModelNotFoundError, OctavoError
from octavo.base.sampling import SamplingParams
from octavo.base.types import Delta, StepEvents, TokenEvent, TokenLogprobs
from octavo.engine.client import EngineClient, InlineClient
from octavo.engine.core import EngineCore
from octavo.engine.frontend import Frontend
from octavo.engine.messages import Add, Events, EventsIn, EventsOut, decode_from_engine, decode_to_engine, encode
from octavo.engine.process import ChildClient
from octavo.executor.inline import InlineExecutor
from tests.engine.engine_child import LIMITS
from tests.engine.fake import FakeRunner, request
from tests.engine.test_equality import random_request
from tests.engine.texts import EOS, tokenizer

PROGRAM = [sys.executable, str(Path(__file__).with_name("engine_child.py"))]
TIMEOUT_S = 60.0


@contextmanager
def child(model: str = "fake") -> Iterator[ChildClient]:
    client = ChildClient(PROGRAM, EngineArgs(model=model))
    try:
        yield client
    finally:
        client.shut()
        assert not client.alive
        assert not running(client.pid)


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def eventually(condition: Callable[[], bool]) -> bool:
    """Whether the condition comes true; the limit is for a broken product, not a measurement."""
    end = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(main(), TIMEOUT_S)

    asyncio.run(bounded())


def frontend(client: EngineClient) -> Frontend:
    return Frontend(client, tokenizer(), LIMITS, eos_token_ids=(EOS,))


class Completion:
    """Deltas of one completion, joined."""

    def __init__(self) -> None:
        self.deltas: list[Delta] = []

    def add(self, delta: Delta) -> None:
        self.deltas.append(delta)

    def all(self) -> list[object]:
        last = self.deltas[-1]
        text = "".join(delta.text for delta in self.deltas)
        tokens = [token for delta in self.deltas for token in delta.token_ids]
        logprobs = [entry for delta in self.deltas for entry in delta.logprobs]
        prompt_logprobs = [entry for delta in self.deltas for entry in delta.prompt_logprobs]
        return [last.finish_reason, last.stop_reason, text, tokens, logprobs, prompt_logprobs]


async def collect(front: Frontend, prompt: list[int], **sampling: object) -> list[Delta]:
    params = SamplingParams(**{"seed": 3, "ignore_eos": True, **sampling})  # type: ignore[arg-type]
    return [delta async for delta in front.generate(prompt, params)]


async def answers(client: EngineClient) -> list[dict[int, list[object]]]:
    """What a client's engine says to a fixed set of random requests that arrive together: per completion its text,
    tokens, log-probabilities and end."""
    front = frontend(client)
    rng = random.Random(11)

    async def one(number: int) -> dict[int, list[object]]:
        asked = random_request(rng, f"r{number}", LIMITS)
        stop = rng.choice([None, ["a"], ["xyz", "b"]])
        completions: dict[int, Completion] = {}
        async for delta in front.generate(asked.prompt_ids, asked.sampling.clone(stop=stop), priority=asked.priority):
            completions.setdefault(delta.index, Completion()).add(delta)
        return {index: completion.all() for index, completion in completions.items()}

    return await asyncio.gather(*[one(number) for number in range(30)])


def test_the_child_process_answers_as_the_inline_engine_does() -> None:
    inside = asyncio.run(answers(InlineClient(EngineCore(LIMITS, InlineExecutor(FakeRunner(LIMITS))))))
    with child() as client:
        ready = client.wait_ready(TIMEOUT_S)
        assert ready.limits == LIMITS
        assert ready.info.details == {"pid": client.pid}
        outside = asyncio.run(answers(client))
        again = asyncio.run(answers(client))  # another event loop, a warm prefix cache
    assert inside == outside == again
    assert all(value[0] in ("stop", "length") for answer in inside for value in answer.values())


def test_messages_come_back_as_they_were() -> None:
    asked = request("é", [1, 2**31], stop=["x"], logit_bias={3: 1.5}, salt="s", priority=-2, eos=(4,), bad_words=["w"])
    added = decode_to_engine(encode(Add.of(asked)))
    assert isinstance(added, Add) and added.request() == asked
    entry = TokenLogprobs(5, -0.1, 2, (5, 6), (-0.1, -1 / 3))
    event = TokenEvent("r", 3, (7, 8), (entry,), (entry, entry), 4, "stop", "x", "e")
    out, back = EventsOut(), EventsIn()
    lineup = (("a", 0), ("b", 2))
    steps = [StepEvents(lineup, (4, 2**31)), StepEvents(lineup, (5, 6), [event]), StepEvents((), (), [event]),
             StepEvents(lineup, (7, 8)), StepEvents((("a", 0),), (9,))]  # fmt: skip
    for step in steps:
        sent = decode_from_engine(encode(out.message(step)))
        assert isinstance(sent, Events)
        received = back.step(sent)
        assert (received.lineup, received.tokens) == (step.lineup, step.tokens)
        assert list(received.events) == list(step.events)
    with pytest.raises(ConnectionError, match="events 7 came where 5 were due"):
        back.step(Events(7, None, b"", ()))
    with pytest.raises(ConnectionError, match="2 tokens came for a lineup of 1"):
        back.step(Events(5, None, b"12345678", ()))


def test_a_lineup_is_sent_when_it_changes() -> None:
    out = EventsOut()
    lineup = (("a", 0), ("b", 2))
    messages = [out.message(step) for step in (StepEvents(lineup, (4, 5)), StepEvents(lineup, (6, 7)), StepEvents())]
    assert [message.lineup for message in messages] == [lineup, None, ()]


@pytest.mark.parametrize(
    ("model", "error", "text"),
    [
        ("absent", ModelNotFoundError, "There is no model 'absent'"),
        ("damaged", ModelFormatError, "model.gguf: is not a GGUF file"),
        ("bug", EngineDeadError, "failed to load: ZeroDivisionError: a bug"),
        ("dies", EngineDeadError, "ended with status 7"),
    ],
)
def test_a_failure_to_load_is_the_same_error_here(model: str, error: type[Exception], text: str) -> None:
    with child(model) as client:
        with pytest.raises(error, match=text) as raised:
            client.wait_ready(TIMEOUT_S)
        assert type(raised.value) is error and "\n" not in str(raised.value)


def test_a_subclass_of_the_options_is_understood() -> None:
    client = ChildClient(PROGRAM, AsyncEngineArgs(model="fake"))
    assert client.wait_ready(TIMEOUT_S).info.name == "fake"
    client.shut()


@pytest.mark.parametrize(
    ("model", "text"),
    [("killed", "SIGKILL"), ("broken", "ArithmeticError: a kernel is wrong"), ("exits", "ended with status 3")],
)
def test_the_childs_death_ends_every_stream_with_one_clear_error(model: str, text: str) -> None:
    async def main() -> None:
        front = frontend(client)
        outs = await asyncio.gather(*[collect(front, [i + 2], n=2, max_tokens=50) for i in range(5)])
        for deltas in outs:
            ends = [delta for delta in deltas if delta.finish_reason]
            assert sorted(delta.index for delta in ends) == [0, 1]
            assert all(delta.finish_reason == "error" and text in (delta.error or "") for delta in ends)
        assert not front.alive
        with pytest.raises(EngineDeadError, match=text):
            await front.stats()
        with pytest.raises(EngineDeadError):
            front.generate([1], SamplingParams())

    with child(model) as client:
        client.wait_ready(TIMEOUT_S)
        run(main)


def test_a_death_without_any_stream_is_noticed() -> None:
    with child() as client:
        client.wait_ready(TIMEOUT_S)
        assert client.alive
        os.kill(client.pid, signal.SIGKILL)
        assert eventually(lambda: not client.alive)
        with pytest.raises(EngineDeadError, match="SIGKILL"):
            client.add(request("r", [1]))


def test_aborts_reach_the_child() -> None:
    async def main() -> None:
        front = frontend(client)
        stream = front.generate([2, 3], SamplingParams(max_tokens=2900, ignore_eos=True))
        await anext(stream)
        assert (await front.stats()).kv_pages_used > 0
        await stream.aclose()  # type: ignore[attr-defined]
        assert (await front.stats()).kv_pages_used == 0  # answered between two steps, after the abort
        assert (await front.stats()).num_running == 0
        assert len(await collect(front, [4], max_tokens=5)) >= 1
        await front.close()

    with child() as client:
        client.wait_ready(TIMEOUT_S)
        run(main)


def test_questions_may_overlap_and_be_given_up() -> None:
    async def main() -> None:
        front = frontend(client)
        stream = front.generate([2, 3], SamplingParams(max_tokens=2900, ignore_eos=True))
        await anext(stream)
        given_up = [asyncio.create_task(front.stats()) for _ in range(20)]
        await asyncio.sleep(0)
        for task in given_up[::2]:
            task.cancel()
        answers = await asyncio.gather(*given_up, *[front.stats() for _ in range(20)], return_exceptions=True)
        assert [isinstance(answer, asyncio.CancelledError) for answer in answers] == [True, False] * 10 + [False] * 20
        steps = [answer.num_steps for answer in answers if not isinstance(answer, BaseException)]
        assert steps == sorted(steps)
        assert not client._asked
        waiting = [asyncio.create_task(front.stats()) for _ in range(3)]
        await asyncio.sleep(0)
        await front.close()  # with a stream and questions open
        for outcome in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(outcome, EngineDeadError) or outcome.num_steps  # type: ignore[union-attr]
        last = [delta async for delta in stream][-1]
        assert (last.finish_reason, last.error) == ("error", "The engine was closed.")

    with child() as client:
        client.wait_ready(TIMEOUT_S)
        run(main)


def test_closing_twice_and_speaking_afterwards() -> None:
    async def main() -> None:
        await client.start()
        await client.close()
        await client.close()
        client.shut()
        client.abort("r")
        with pytest.raises(EngineDeadError, match="closed"):
            client.add(request("r", [1]))
        with pytest.raises(EngineDeadError, match="closed"):
            await client.events()
        with pytest.raises(EngineDeadError, match="closed"):
            await client.stats()

    with child() as client:
        client.wait_ready(TIMEOUT_S)
        run(main)


def test_an_interrupt_from_the_terminal_does_not_touch_the_child() -> None:
    async def main() -> None:
        os.kill(client.pid, signal.SIGINT)
        deltas = await collect(frontend(client), [2], max_tokens=4)
        assert deltas[-1].finish_reason == "length"

    with child() as client:
        client.wait_ready(TIMEOUT_S)
        assert os.getsid(client.pid) != os.getsid(0)
        run(main)


def test_an_idle_child_sleeps() -> None:
    with child() as client:
        client.wait_ready(TIMEOUT_S)
        assert eventually(lambda: Path(f"/proc/{client.pid}/wchan").exists() and state(client.pid) == "S")
        used = cpu_ticks(client.pid)
        time.sleep(0.5)
        assert cpu_ticks(client.pid) - used <= 1


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def test_no_orphan_is_left_when_the_parent_is_killed() -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from octavo.base.config import EngineArgs\n"
        "from octavo.engine.process import ChildClient\n"
        "client = ChildClient(sys.argv[2:], EngineArgs(model='fake'))\n"
        "client.wait_ready(); print(client.pid, flush=True); sys.stdin.read()\n"
    )
    root = str(Path(__file__).parents[2])
    parent = subprocess.Popen([sys.executable, "-c", script, root, *PROGRAM], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True)  # fmt: skip
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert running(pid)
        parent.kill()
    assert eventually(lambda: not running(pid) or state(pid) == "Z")


def test_a_process_that_loads_ends_with_its_socket() -> None:
    client = ChildClient(PROGRAM, EngineArgs(model="loads long"))
    with pytest.raises(TimeoutError):
        client.wait_ready(0.01)
    client.shut()
    assert client._process.returncode == 0, "it had to be told by a signal"


def test_last_words_are_heard_by_a_frontend_that_is_sending() -> None:
    async def main() -> None:
        front = frontend(client)
        await client.start()
        front.open(front.prepare([2], SamplingParams(max_tokens=50, ignore_eos=True)))
        assert eventually(lambda: client._process.poll() is not None)  # the loop is busy: nothing is read meanwhile
        client.abort("x")
        client.abort("y")
        with pytest.raises(EngineDeadError, match="ArithmeticError: a kernel is wrong"):
            await front.stats()

    with child("broken") as client:
        client.wait_ready(TIMEOUT_S)
        run(main)


def test_two_loops_in_one_thread_may_take_turns_with_open_streams() -> None:
    with child("slow") as client, asyncio.Runner() as one, asyncio.Runner() as other:
        client.wait_ready(TIMEOUT_S)
        front = frontend(client)
        params = SamplingParams(seed=3, temperature=0, max_tokens=12, ignore_eos=True)
        streams = [front.generate([5], params) for _ in range(2)]
        tokens: list[list[int]] = [[], []]

        async def take(which: int, most: int) -> None:
            while len(tokens[which]) < most:
                tokens[which] += (await asyncio.wait_for(anext(streams[which]), TIMEOUT_S)).token_ids

        for loop, which, most in ((one, 0, 1), (other, 1, 3), (one, 0, 12), (other, 1, 12)):
            loop.run(take(which, most))
        assert tokens[0] == tokens[1] and len(tokens[0]) == 12


def test_a_second_loop_in_another_thread_is_refused() -> None:
    async def main() -> None:
        front = frontend(client)
        stream = front.generate([5], SamplingParams(max_tokens=2000, ignore_eos=True))
        await anext(stream)
        with pytest.raises(OctavoError, match="event loop in another thread"):
            await asyncio.to_thread(asyncio.run, collect(front, [4]))
        await stream.aclose()  # type: ignore[attr-defined]
        assert len(await collect(front, [4], max_tokens=3)) >= 1

    with child() as client:
        client.wait_ready(TIMEOUT_S)
        run(main)


def test_closing_ends_the_process() -> None:
    async def main() -> None:
        await collect(frontend(client), [2], max_tokens=2)
        await client.close()
        assert not client.alive and not running(client.pid)

    with child() as client:
        client.wait_ready(TIMEOUT_S)
        run(main)


def test_more_requests_than_a_socket_holds_all_arrive() -> None:
    async def main() -> None:
        front = frontend(client)
        prompt = [1 + i % 40 for i in range(350)]
        sampling = {"max_tokens": 1, "stop": ["x" * 2000] * 16}  # about 32 kB a request on the socket
        outs = await asyncio.gather(*[collect(front, prompt, **sampling) for _ in range(40)])
        assert all(deltas[-1].finish_reason == "length" for deltas in outs)

    with child() as client:
        client.wait_ready(TIMEOUT_S)
        run(main)
