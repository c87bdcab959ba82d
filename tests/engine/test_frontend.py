"""The frontend: text, stop strings, checks, merging, exactly one end; over scripted events and over the fake model."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import pytest

from octavo.base.errors import EngineDeadError, InvalidRequestError, PromptTooLongError
from octavo.base.sampling import SamplingParams
from octavo.base.types import (
    Delta,
    EngineLimits,
    EngineStats,
    Request,
    StepEvents,
    StepPlan,
    StepResult,
    TokenEvent,
    TokenLogprobs,
)
from octavo.engine.client import InlineClient
from octavo.engine.core import EngineCore
from octavo.engine.frontend import Frontend
from octavo.executor.inline import InlineExecutor
from tests.engine.fake import FakeRunner, limits, request
from tests.engine.harness import Harness
from tests.engine.texts import EOS, SPECIAL, ids, text_of, tokenizer


class ScriptedClient:
    """Answers with given batches of events, which name requests as the caller does; keeps what it was told."""

    def __init__(self, batches: Iterable[Sequence[TokenEvent]]) -> None:
        self.batches = list(batches)
        self.ids: dict[str, str] = {}  # the engine's by the caller's
        self.aborted: list[tuple[str, int | None]] = []
        self.alive = True

    def add(self, request: Request) -> None:
        assert request.request_id not in self.ids.values()
        self.ids[request.request_id.rsplit("/", 1)[0]] = request.request_id

    def abort(self, request_id: str, index: int | None = None) -> None:
        self.aborted.append((request_id.rsplit("/", 1)[0], index))

    def step(self) -> StepEvents:
        return StepEvents(
            events=[replace(event, request_id=self.ids[event.request_id]) for event in self.batches.pop(0)]
        )

    async def start(self) -> None: ...

    async def events(self) -> list[StepEvents]:
        if not self.batches:
            self.alive = False
            raise EngineDeadError("The engine process was killed.")
        return [self.step()]

    async def stats(self) -> EngineStats:
        return EngineStats()

    async def close(self) -> None:
        self.alive = False


def frontend(client: ScriptedClient | InlineClient, lim: EngineLimits | None = None, **options: int) -> Frontend:
    return Frontend(client, tokenizer(), lim or limits(), eos_token_ids=(EOS,), **options)


def event(token_ids: Sequence[int], finish: str | None = None, index: int = 0, **fields: object) -> TokenEvent:
    return TokenEvent("r", index, tuple(token_ids), finish_reason=finish, **fields)  # type: ignore[arg-type]


def answer(batches: Iterable[Sequence[TokenEvent]], **sampling: object) -> tuple[list[Delta], ScriptedClient]:
    client = ScriptedClient(batches)
    front = frontend(client)
    params = SamplingParams(**{"max_tokens": 99, **sampling})  # type: ignore[arg-type]
    front.open(front.prepare([2, 3], params, request_id="r"))
    deltas = list(front.run())
    assert front.num_open == 0
    for index in range(params.n):
        ends = [delta for delta in deltas if delta.index == index and delta.finish_reason]
        assert len(ends) == 1 and [d for d in deltas if d.index == index][-1] is ends[0]
    return deltas, client


def joined(deltas: list[Delta], index: int = 0) -> tuple[str, tuple[int, ...], str | None, int | str | None]:
    mine = [delta for delta in deltas if delta.index == index]
    tokens = tuple(token for delta in mine for token in delta.token_ids)
    return "".join(delta.text for delta in mine), tokens, mine[-1].finish_reason, mine[-1].stop_reason


def test_text_comes_as_tokens_do() -> None:
    deltas, _ = answer([[event(ids("a"))], [event(ids("b"))], [event(ids("c"), "length")]])
    assert [delta.text for delta in deltas] == ["a", "b", "c"]
    assert [delta.num_output_tokens for delta in deltas] == [1, 2, 3]
    assert [delta.num_prompt_tokens for delta in deltas] == [2, 2, 2]


def test_a_character_is_never_split_and_an_unfinished_one_is_marked_at_the_end() -> None:
    smile = ids("😀")
    assert len(smile) == 4
    deltas, _ = answer([*[[event([token])] for token in smile], [event(smile[:2], "length")]])
    assert [delta.text for delta in deltas] == ["", "", "", "😀", "�"]


def test_the_token_that_stops_counts_but_its_text_is_hidden_unless_included() -> None:
    batches = [[event(ids("ab"))], [event(ids("z"), "stop", stop_reason=27)]]
    assert joined(answer(batches)[0]) == ("ab", ids("ab") + ids("z"), "stop", 27)
    assert joined(answer(batches, include_stop_str_in_output=True)[0])[0] == "abz"


def test_special_tokens_and_no_detokenization() -> None:
    batches = [[event([SPECIAL, *ids("a"), EOS], "length")]]
    assert joined(answer(batches)[0])[0] == "a"
    assert joined(answer(batches, skip_special_tokens=False)[0])[0] == "<tool>a</s>"
    assert joined(answer(batches, detokenize=False)[0])[:2] == ("", (SPECIAL, *ids("a"), EOS))


@pytest.mark.parametrize("include", [False, True])
def test_a_stop_string_ends_the_completion_and_tells_the_engine(include: bool) -> None:
    batches = [[event(ids("x"))], [event(ids("y"))], [event(ids("z"))], [event(ids("q"))]]
    deltas, client = answer(batches, stop=["yz"], include_stop_str_in_output=include)
    assert joined(deltas) == ("xyz" if include else "x", ids("x") + ids("y") + ids("z"), "stop", "yz")
    assert [delta.text for delta in deltas][:2] == ["x", ""]  # the y is held back
    assert client.aborted == [("r", 0)]
    assert len(client.batches) == 1


def test_a_stop_inside_a_burst_cuts_tokens_and_logprobs_after_it() -> None:
    burst = ids("c") + ids("d") + ids("e")
    logprobs = tuple(TokenLogprobs(token, -1.0, 1) for token in burst)
    deltas, _ = answer([[event(burst, logprobs=logprobs)]], stop="d", logprobs=0)
    assert joined(deltas) == ("c", burst[:2], "stop", "d")
    assert deltas[0].logprobs == logprobs[:2]


def test_held_text_is_shown_when_the_end_comes_without_a_stop() -> None:
    deltas, client = answer([[event(ids("x"))], [event(ids("y"), "length")]], stop=["xyz"])
    assert joined(deltas)[0] == "xy" and client.aborted == []


def test_a_stop_string_in_the_last_token_wins_over_length_and_needs_no_abort() -> None:
    deltas, client = answer([[event(ids("q"), "length")]], stop=["q"])
    assert joined(deltas) == ("", ids("q"), "stop", "q") and client.aborted == []


def test_stop_strings_are_ignored_within_min_tokens() -> None:
    batches = [[event(ids(letter))] for letter in "qqaq"]
    deltas, _ = answer(batches, stop=["q"], min_tokens=2)
    assert joined(deltas) == ("qqa", ids("q") * 2 + ids("a") + ids("q"), "stop", "q")
    deltas, _ = answer([[event(ids("q") * 2 + ids("a") + ids("q"))]], stop=["q"], min_tokens=2)
    assert joined(deltas)[0] == "qqa"


def test_completions_end_each_for_itself() -> None:
    batches = [[event(ids("a")), event(ids("b"), index=1)], [event(ids("c"), "stop"), event(ids("d"), index=1)],
               [event(ids("e"), "length", index=1)]]  # fmt: skip
    deltas, _ = answer(batches, n=2)
    assert joined(deltas, 0)[0] == "a" and joined(deltas, 1)[0] == "bde"
    assert deltas[-1].num_output_tokens == 5


def test_an_error_event_is_a_terminal_delta() -> None:
    deltas, _ = answer([[event((), "error", error="too large")]])
    assert (deltas[0].finish_reason, deltas[0].error) == ("error", "too large")


def test_what_nobody_fetched_is_merged() -> None:
    front = frontend(ScriptedClient([]))
    front.open(front.prepare([2, 3], SamplingParams(n=2), request_id="r"))
    stream = front._streams["r"]
    for letter in "abc":
        stream.take(event(ids(letter)))
    stream.take(event(ids("z"), index=1))
    stream.take(event(ids("d"), "length"))
    first, second = stream.pop(), stream.pop()
    assert first is not None and second is not None and stream.pop() is None
    assert (first.text, first.token_ids, first.finish_reason) == (
        "abcd",
        ids("a") + ids("b") + ids("c") + ids("d"),
        "length",
    )
    assert (second.index, second.text) == (1, "z")


# ---------------------------------------------------------------- checks


@pytest.mark.parametrize(
    ("prompt", "sampling", "param"),
    [
        ([], {}, "prompt"),
        ([1, 50], {}, "prompt"),
        ([-1], {}, "prompt"),
        ([1] * 128, {}, "prompt"),
        ([1], {"stop_token_ids": [50]}, "stop_token_ids"),
        ([1], {"allowed_token_ids": [1, 99]}, "allowed_token_ids"),
        ([1], {"logit_bias": {50: 1.0}}, "logit_bias"),
        ([1], {"logprobs": 21}, "logprobs"),
        ([1], {"prompt_logprobs": -1}, "prompt_logprobs"),
        ([1] * 120, {"min_tokens": 9, "max_tokens": 10}, "min_tokens"),
    ],
)
def test_what_the_model_cannot_do_is_refused_by_name(prompt: list[int], sampling: dict[str, int], param: str) -> None:
    with pytest.raises(InvalidRequestError) as refusal:
        frontend(ScriptedClient([])).prepare(prompt, SamplingParams(**sampling))  # type: ignore[arg-type]
    assert refusal.value.param == param


def test_limits_of_context_and_pool_are_told_apart() -> None:
    with pytest.raises(PromptTooLongError, match="128 tokens, but this model's maximum context length is 128"):
        frontend(ScriptedClient([])).prepare([1] * 128, SamplingParams())
    frontend(ScriptedClient([])).prepare([1] * 127, SamplingParams())
    with pytest.raises(InvalidRequestError, match="kv_memory_bytes"):
        frontend(ScriptedClient([]), limits(num_pages=3)).prepare([1] * 13, SamplingParams())
    frontend(ScriptedClient([]), limits(num_pages=3)).prepare([1] * 12, SamplingParams())


def test_logprobs_have_no_cap_where_none_is_set() -> None:
    frontend(ScriptedClient([]), max_logprobs=-1).prepare([1], SamplingParams(logprobs=-1, prompt_logprobs=40))


def test_seeds_are_drawn_where_none_is_given() -> None:
    front = frontend(ScriptedClient([]))
    drawn = {front.prepare([1], SamplingParams()).sampling.seed for _ in range(20)}
    assert len(drawn) == 20 and None not in drawn
    assert front.prepare([1], SamplingParams(seed=0)).sampling.seed == 0
    series = [[frontend(ScriptedClient([]), seed=5).prepare([1], SamplingParams()).sampling.seed] for _ in range(2)]
    assert series[0] == series[1]


def test_bad_words_are_told_at_the_start_of_a_text_and_after_a_space() -> None:
    front = frontend(ScriptedClient([]))
    asked = front.prepare([1], SamplingParams(bad_words=["b", " xyzz", "z"]))
    assert len(ids(" b")) == 1 and len(ids(" z")) == 2
    assert asked.bad_word_ids == (ids("b"), ids(" b"), ids("xyzz"), ids("z"))


def test_an_id_in_use_is_refused() -> None:
    front = frontend(ScriptedClient([]))
    front.open(front.prepare([1], SamplingParams(), request_id="r"))
    with pytest.raises(InvalidRequestError, match="'r'"):
        front.prepare([1], SamplingParams(), request_id="r")


def test_an_id_that_came_into_use_meanwhile_is_refused_when_opened() -> None:
    front = frontend(ScriptedClient([]))
    twice = [front.prepare([1], SamplingParams(), request_id="r") for _ in range(2)]
    front.open(twice[0])
    with pytest.raises(InvalidRequestError, match="'r'"):
        front.open(twice[1])
    assert front.num_open == 1


# ---------------------------------------------------------------- over the fake model


class FailingRunner(FakeRunner):
    """Fails in its third step, before or after the forward."""

    def __init__(self, lim: EngineLimits, *, early: bool = False) -> None:
        super().__init__(lim)
        self._early = early

    def begin(self, plan: StepPlan) -> None:
        if self._early and len(self.plans) == 2:
            self.plans.append(plan)
            raise MemoryError("no more")
        super().begin(plan)

    def finish(self, masks: Mapping[int, bytes]) -> StepResult:
        if not self._early and len(self.plans) == 3:
            self.begun = None
            raise MemoryError("no more")
        return super().finish(masks)


def inline(runner: FakeRunner | None = None) -> tuple[Frontend, InlineClient]:
    runner = runner or FakeRunner(limits())
    client = InlineClient(EngineCore(limits(), InlineExecutor(runner)))
    return frontend(client), client


def truth(name: str, prompt: list[int], **sampling: object) -> list[int]:
    harness = Harness(limits())
    harness.run(request(name, prompt, eos=(EOS,), **sampling))
    return harness.tokens(name)


def test_many_requests_run_in_the_callers_thread() -> None:
    front, client = inline()
    for i in range(20):
        front.open(front.prepare([i + 2, 5], SamplingParams(temperature=0, seed=7, max_tokens=9), request_id=str(i)))
    tokens: dict[str, list[int]] = {}
    text: dict[str, str] = {}
    for delta in front.run():
        tokens.setdefault(delta.request_id, []).extend(delta.token_ids)
        text[delta.request_id] = text.get(delta.request_id, "") + delta.text
    for i in range(20):
        assert tokens[str(i)] == truth("x", [i + 2, 5], max_tokens=9)
        assert text[str(i)] == text_of(tokens[str(i)])
    assert client._core.stats().kv_pages_used == 0
    assert not front._streams and not front._routes


def test_the_end_of_an_aborted_request_is_not_taken_for_that_of_the_next_of_its_name() -> None:
    front, _ = inline()
    for _ in range(3):
        front.open(front.prepare([2, 3], SamplingParams(max_tokens=50, ignore_eos=True), request_id="r"))
        front.abort("r")
    front.open(front.prepare([3], SamplingParams(temperature=0, seed=7, max_tokens=9), request_id="r"))
    deltas = list(front.run())
    assert [token for delta in deltas for token in delta.token_ids] == truth("x", [3], max_tokens=9)
    assert {delta.request_id for delta in deltas} == {"r"} and deltas[-1].finish_reason == "length"


@pytest.fixture
def no_collector_callbacks() -> Iterator[None]:
    """Python drops an interrupt that is raised in one, and test libraries have theirs."""
    callbacks = gc.callbacks[:]
    gc.callbacks.clear()
    yield
    gc.callbacks[:] = callbacks


@pytest.mark.usefixtures("no_collector_callbacks")
def test_interrupts_at_any_moment_leave_the_engine_whole() -> None:
    front, client = inline()
    rng = random.Random(3)
    num_interrupts = 0
    for _ in range(60):
        timer = threading.Timer(rng.random() / 200, os.kill, (os.getpid(), signal.SIGINT))
        try:
            timer.start()
            while True:
                for _ in range(4):
                    front.open(front.prepare([2, 3, 4], SamplingParams(n=2, max_tokens=90)))
                for _ in front.run():
                    pass
        except KeyboardInterrupt:
            num_interrupts += 1
        timer.join()
        for _ in front.run():  # what was opened and not run yet
            pass
        client._core.scheduler.check()
    assert num_interrupts == 60
    assert client._core.stats().kv_pages_used == 0 and front.num_open == 0
    deltas = run_alone(front, [3])
    assert deltas == truth("x", [3], max_tokens=4)


def run_alone(front: Frontend, prompt: list[int]) -> list[int]:
    front.open(front.prepare(prompt, SamplingParams(temperature=0, max_tokens=4)))
    return [token for delta in front.run() for token in delta.token_ids]


def test_leaving_the_iterator_ends_the_requests() -> None:
    front, client = inline()
    for i in range(3):
        front.open(front.prepare([i + 2], SamplingParams(max_tokens=50, ignore_eos=True)))
    running = front.run()
    next(running)
    running.close()
    assert front.num_open == 0 and client._core.stats().kv_pages_used == 0
    assert not client._core.scheduler.has_work


@pytest.mark.parametrize("early", [False, True])
def test_an_exception_in_a_step_reaches_the_caller_and_the_engine_stays_usable(early: bool) -> None:
    front, client = inline(FailingRunner(limits(), early=early))
    front.open(front.prepare([2], SamplingParams(max_tokens=50, ignore_eos=True)))
    with pytest.raises(MemoryError, match="no more"):
        list(front.run())
    assert front.num_open == 0 and client._core.stats().kv_pages_used == 0
    client._core.scheduler.check()
    assert run_alone(front, [3]) == truth("x", [3], max_tokens=4)


async def collect(front: Frontend, prompt: list[int], **sampling: object) -> list[Delta]:
    params = SamplingParams(**{"temperature": 0, "seed": 7, "max_tokens": 9, **sampling})  # type: ignore[arg-type]
    return [delta async for delta in front.generate(prompt, params)]


def test_streams_of_an_event_loop() -> None:
    async def main() -> None:
        front, client = inline()
        answers = await asyncio.gather(*[collect(front, [i + 2, 5], n=1 + i % 2) for i in range(12)])
        for i, deltas in enumerate(answers):
            assert list(joined(deltas)[1]) == truth("x", [i + 2, 5], max_tokens=9)
        assert (await front.stats()).kv_pages_used == 0
        assert front.num_open == 0
        await front.close()
        assert not front.alive and not client.alive

    asyncio.run(main())


def test_one_engine_serves_several_event_loops_in_turn() -> None:
    front, _ = inline()
    for _ in range(2):
        assert list(joined(asyncio.run(collect(front, [4])))[1]) == truth("x", [4], max_tokens=9)


def test_closing_a_stream_frees_its_pages_in_the_same_step() -> None:
    async def main() -> None:
        front, client = inline()
        stream = front.generate([2, 3, 4], SamplingParams(max_tokens=100, ignore_eos=True))
        other = asyncio.create_task(collect(front, [7], max_tokens=60, ignore_eos=True))
        await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]
        assert front.num_open == 1
        await other
        assert (await front.stats()).kv_pages_used == 0
        assert client._core.stats().generation_tokens < 60 + 20
        await front.close()

    asyncio.run(main())


def test_a_cancelled_consumer_is_an_abort() -> None:
    async def main() -> None:
        front, client = inline()
        task = asyncio.create_task(collect(front, [2], max_tokens=120, ignore_eos=True))
        while not client._core.stats().num_running:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert front.num_open == 0
        assert len(await collect(front, [3])) == 9
        await front.close()

    asyncio.run(main())


def test_nothing_is_lost_when_the_task_that_moves_events_is_cancelled() -> None:
    async def main() -> None:
        front, client = inline()
        task = asyncio.create_task(collect(front, [2], max_tokens=40, ignore_eos=True))
        for _ in range(5):
            while not client._stepping:
                await asyncio.sleep(0)
            assert front._pump is not None
            front._pump.cancel()
            await asyncio.gather(front._pump, return_exceptions=True)
            front._ensure_pump()
        assert list(joined(await task)[1]) == truth("x", [2], max_tokens=40, ignore_eos=True)
        await front.close()

    asyncio.run(main())


def test_the_engines_death_ends_every_stream_once_and_for_all() -> None:
    async def main() -> None:
        front = frontend(ScriptedClient([[event(ids("a"))]]))
        deltas = [delta async for delta in front.generate([2], SamplingParams(n=2), request_id="r")]
        assert [(d.index, d.text, d.finish_reason) for d in deltas] in (
            [(0, "a", None), (0, "", "error"), (1, "", "error")],
            [(0, "a", "error"), (1, "", "error")],
        )
        assert all(d.error == "The engine process was killed." for d in deltas if d.finish_reason)
        assert not front.alive
        with pytest.raises(EngineDeadError):
            front.generate([2], SamplingParams())

    asyncio.run(main())


def test_a_failing_step_ends_streams_of_an_event_loop_with_its_error() -> None:
    async def main() -> None:
        front, _ = inline(FailingRunner(limits()))
        deltas = await collect(front, [2], max_tokens=50, ignore_eos=True)
        assert deltas[-1].finish_reason == "error" and "MemoryError: no more" in (deltas[-1].error or "")
        assert not front.alive

    asyncio.run(main())


def test_refusals_come_before_the_stream() -> None:
    front, _ = inline()
    with pytest.raises(InvalidRequestError):
        front.generate([], SamplingParams())
