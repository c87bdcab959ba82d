"""The runner over a made-up forward: what reaches a program, and what is sampled from its logits."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from octavo.backends.ops import F32, I32, RowLogprobs, SampleRows, StepInputs
from octavo.backends.reference.logprobs import logprobs
from octavo.backends.reference.sampling import sample
from octavo.base.types import EngineLimits, KvGroup, RowInit, RowStep, StepPlan, TokenLogprobs
from octavo.engine.core import EngineCore
from octavo.engine.scheduler import Scheduler
from octavo.executor.inline import InlineExecutor
from octavo.runner.runner import Runner, Stage
from tests.engine.fake import FULL, limits, request
from tests.engine.test_drafts import with_drafts

V = 50


class MadeUp:
    """Backend, program and pages in one: the logits of a position follow from its token and the one before it in the
    same row of the step, or from its position."""

    numerics = name = "made-up"
    layers: Sequence[Any] = ()
    scratch_bytes = 0

    def __init__(self) -> None:
        self.steps: list[StepInputs] = []
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def prepare(self, inputs: StepInputs) -> StepInputs:
        self.steps.append(copy.deepcopy(inputs))  # the caller goes on to write in its tables
        return inputs

    def submit(self, inputs: StepInputs) -> None:
        self.submitted = inputs

    def join(self) -> Mapping[str, F32]:
        return self.run(self.submitted)

    def run(self, inputs: StepInputs) -> Mapping[str, F32]:
        rows = [
            np.random.default_rng((int(inputs.token_ids[t]), int(inputs.positions[t]))).normal(size=V)
            for t in inputs.sample_rows
        ]
        return {"logits": np.array(rows, np.float32).reshape(-1, V)}

    def sample(self, logits: F32, rows: SampleRows) -> I32:
        return sample(logits, rows)

    def logprobs(self, logits: F32, tokens: I32, num_top: int) -> RowLogprobs:
        return logprobs(logits, tokens, num_top)

    def zero_pages(self, pages: Sequence[int]) -> None:
        self.calls.append(("zero", tuple(pages)))

    def copy_pages(self, pairs: Sequence[tuple[int, int]]) -> None:
        self.calls.append(("copy", tuple(pairs)))

    def close(self) -> None:
        self.calls.append(("close", ()))


def made_up(lim: EngineLimits) -> tuple[Runner, MadeUp]:
    all_in_one = MadeUp()
    stage: Any = Stage(all_in_one, all_in_one, all_in_one)  # type: ignore[arg-type]
    return Runner([stage], lim), all_in_one


Answer = tuple[list[int], list[TokenLogprobs], str | None, str | None]


def answers(lim: EngineLimits, *asked: Any) -> dict[str, Answer]:
    core = EngineCore(lim, InlineExecutor(made_up(lim)[0]))
    out: dict[str, Answer] = {}
    for one in asked:
        core.add(one)
    while core.has_work:
        for event in core.step():
            tokens, logprobs, _, _ = out.get(event.request_id, ([], [], None, None))
            out[event.request_id] = ([*tokens, *event.token_ids], [*logprobs, *event.logprobs], event.finish_reason,
                                     event.error)  # fmt: skip
        core.scheduler.check()
    assert core.stats().kv_pages_used == 0
    return out


def test_a_program_sees_exactly_the_pages_in_reach() -> None:
    groups = (FULL, KvGroup("short", 3), KvGroup("long", 9))
    lim = limits(groups=groups, num_pages=36, max_num_batched_tokens=16)
    runner, made = made_up(lim)
    core = EngineCore(lim, InlineExecutor(runner))
    for i in range(5):
        core.add(request(f"r{i}", [i + 1 + j % 7 for j in range(13 + i)], max_tokens=30))
    while core.has_work:
        core.step()
    assert core.stats().num_preemptions > 0
    hidden = 0
    for step in made.steps:
        for group, table in zip(groups, step.page_tables, strict=True):
            for r in range(len(table)):
                first = step.positions[step.row_starts[r]] - (group.window or 10**6) + 1
                reach, end = max(0, int(first)) // lim.page_size, -(-int(step.context_lens[r]) // lim.page_size)
                assert (table[r, :reach] == -1).all() and (table[r, reach:end] >= 0).all()
                hidden += reach
        shared = [set(table[table >= 0].tolist()) for table in step.page_tables]
        assert sum(map(len, shared)) == len(set().union(*shared)), "two groups read one page"
    assert hidden > 100


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(
    "controls",
    [
        {"allowed_token_ids": [3], "min_tokens": 2, "stop_token_ids": [3]},
        {"allowed_token_ids": [3], "min_tokens": 2, "eos": (3,), "ignore_eos": True},
    ],
)
def test_where_no_token_is_left_the_sequence_ends_with_an_error(temperature: float, controls: dict[str, Any]) -> None:
    lim = limits()
    stuck = request("stuck", [1, 2, 3], temperature=temperature, top_p=0.9, min_p=0.1, logprobs=0, **controls)
    other = request("other", [4, 5], temperature=temperature, max_tokens=6, logprobs=2)
    together = answers(lim, stuck, other)
    tokens, logprobs, reason, error = together["stuck"]
    assert (tokens, logprobs, reason) == ([], [], "error")
    assert error is not None and "position 3" in error and "min_tokens" in error
    assert together["other"] == answers(lim, other)["other"]


def test_logits_that_are_no_numbers_end_the_sequence_and_no_other() -> None:
    lim = limits()
    runner, made = made_up(lim)
    healthy = made.run

    def damaged(inputs: StepInputs) -> Mapping[str, F32]:
        broken = inputs.token_ids[inputs.sample_rows, None] == 9
        return {"logits": np.where(broken, np.float32(np.nan), healthy(inputs)["logits"])}

    made.run = damaged  # type: ignore[method-assign]
    core = EngineCore(lim, InlineExecutor(runner))
    core.add(request("bad", [1, 9], temperature=1.0, top_p=0.5))
    core.add(request("good", [1, 2], max_tokens=1))
    ends = {event.request_id: (event.finish_reason, event.error) for event in core.step()}
    assert ends["bad"][0] == "error" and "position 2 are not numbers" in (ends["bad"][1] or "")
    assert ends["good"] == ("length", None)


def test_a_bad_word_that_is_the_only_allowed_token_ends_the_sequence_when_it_is_due() -> None:
    asked = request("r", [1, 2], allowed_token_ids=[7], logprobs=1)
    word = type(asked)(**{**asked.__dict__, "bad_word_ids": ((7, 7, 7),)})
    tokens, logprobs, reason, error = answers(limits(), word)["r"]
    assert (tokens, len(logprobs), reason) == ([7, 7], 2, "error")
    assert error is not None and "position 4" in error


@pytest.mark.parametrize("right", [0, 1, 3])
@pytest.mark.parametrize("controls", [{}, {"frequency_penalty": 1.5, "repetition_penalty": 1.4, "presence_penalty": 1}])
def test_drafts_change_neither_tokens_nor_log_probabilities(right: int, controls: dict[str, float]) -> None:
    lim = limits()
    asked = request("r", [1, 2, 3], max_tokens=20, temperature=1.0, logprobs=3, logit_bias={4: 2.0}, **controls)
    truth = answers(lim, asked)["r"]
    scheduler, (runner, _) = Scheduler(lim), made_up(lim)
    scheduler.add(asked)
    tokens: list[int] = []
    logprobs: list[TokenLogprobs] = []
    num_steps = 0
    while scheduler.has_work:
        plan = scheduler.schedule()
        assert plan is not None
        if tokens:
            known = truth[0][len(tokens) : len(tokens) + right]
            plan = with_drafts(scheduler, plan, (*known, (known or [0])[-1] ^ 1))
        num_steps += 1
        for event in scheduler.commit(plan, runner.run(plan)):
            tokens += event.token_ids
            logprobs += event.logprobs
    assert (tokens, logprobs) == truth[:2]
    assert num_steps <= 1 + -(-20 // (right + 1))


def test_a_slot_can_be_left_and_taken_in_one_plan() -> None:
    runner, made = made_up(limits())

    def init(*tokens: int) -> RowInit:
        asked = request("r", tokens)
        return RowInit(0, tokens, len(tokens), asked.sampling, 1)

    runner.run(StepPlan(0, (RowStep(0, 0, 3, ((5,),), True),), (init(1, 2, 3),)))
    taken = StepPlan(1, (RowStep(0, 0, 2, ((9,),), True),), (init(8, 7),), free_slots=(0,))
    again = runner.run(taken)
    assert made.steps[-1].token_ids.tolist() == [8, 7] and made.steps[-1].page_tables[0].tolist() == [[9]]
    alone = made_up(limits())[0].run(taken)
    assert again.rows == alone.rows


def test_pages_are_cleared_and_copied_before_the_forward_in_this_order() -> None:
    lim = limits()
    runner, made = made_up(lim)
    core = EngineCore(lim, InlineExecutor(runner))
    core.add(request("r", [1, 2, 3, 4, 5, 6], n=3, max_tokens=2))
    core.step()
    made.calls.clear()
    core.step()
    (first, zeroed), (second, copied) = made.calls
    assert (first, second) == ("zero", "copy")
    assert {target for _, target in copied} <= set(zeroed) and len(copied) == 2
    core.close()
    assert made.calls[-1][0] == "close"


def test_seeds_of_any_sign_and_size_are_taken_modulo_two_to_the_64() -> None:
    lim = limits()
    for seed, same in ((-2, 2**64 - 2), (-(2**63), 2**63), (2**64 - 1, 2**64 - 1), (0, 0)):
        one, other = (answers(lim, request("r", [1, 2], temperature=1.0, seed=value)) for value in (seed, same))
        assert one == other
    assert answers(lim, request("r", [1, 2], temperature=1.0, seed=1)) != one
