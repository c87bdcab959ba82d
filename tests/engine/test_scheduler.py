"""What the scheduler promises, case by case, over the fake model."""

from __future__ import annotations

import pytest

from octavo.base.types import KvGroup
from octavo.engine.sequence import completion_seed
from tests.engine.fake import FULL, limits, request
from tests.engine.harness import Harness, expected

LONG = [1 + i % 9 for i in range(30)]


def test_one_request_yields_what_the_model_says() -> None:
    lim = limits()
    harness = Harness(lim)
    asked = request("a", [3, 1, 4], max_tokens=5)
    harness.run(asked)
    assert (harness.tokens("a"), harness.outputs["a", 0].finish_reason) == expected(lim, asked, 7)


def test_prompts_are_cut_to_the_budget_and_only_the_last_chunk_samples() -> None:
    harness = Harness(limits(max_num_batched_tokens=8))
    harness.run(request("a", LONG, max_tokens=2))
    rows = [(p.rows[0].start, p.rows[0].num_tokens, p.rows[0].sample) for p in harness.runner.steps]
    assert rows == [(0, 8, False), (8, 8, False), (16, 8, False), (24, 6, True), (30, 1, True)]


def test_running_rows_get_their_token_before_prompt_chunks() -> None:
    harness = Harness(limits(max_num_batched_tokens=8))
    harness.add(request("a", [1, 2], max_tokens=20))
    harness.step()
    harness.add(request("b", LONG))
    harness.step()
    plan = harness.runner.steps[-1]
    assert [(row.slot, row.num_tokens) for row in plan.rows] == [(0, 1), (1, 7)]
    harness.run()


def test_lower_priority_numbers_and_earlier_arrivals_enter_first() -> None:
    harness = Harness(limits(max_num_seqs=1))
    asked = [request("late", [1], priority=1), request("first", [2]), request("second", [3])]
    ended = []
    harness.add(*asked)
    while harness.core.has_work:
        ended += [event.request_id for event in harness.step() if event.finish_reason]
    assert ended == ["first", "second", "late"]


def test_end_rules() -> None:
    lim = limits()
    base = request("a", [5, 6, 7], max_tokens=6)
    tokens, _ = expected(lim, base, 7)
    end = tokens[2]
    assert end not in tokens[:2]

    def answer(**changes: object) -> tuple[list[int], str | None, int | str | None]:
        out = Harness(lim).run(request("a", [5, 6, 7], **{"max_tokens": 6, **changes}))["a", 0]
        return out.token_ids, out.finish_reason, out.stop_reason

    assert answer() == (tokens, "length", None)
    assert answer(eos=(end,)) == (tokens[:3], "stop", None)
    assert answer(eos=(end,), ignore_eos=True) == (tokens, "length", None)
    assert answer(stop_token_ids=[end]) == (tokens[:3], "stop", end)
    assert answer(stop_token_ids=[end], min_tokens=3) == (tokens[:3], "stop", end)
    assert answer(stop_token_ids=[tokens[1], end], min_tokens=3) == (tokens[:3], "stop", end)
    assert answer(stop_token_ids=[end], ignore_eos=True) == (tokens[:3], "stop", end)
    assert answer(max_tokens=3, eos=(end,)) == (tokens[:3], "stop", None)
    assert answer(max_tokens=1) == (tokens[:1], "length", None)


def test_the_context_window_ends_a_sequence() -> None:
    out = Harness(limits(max_model_len=16)).run(request("a", [1, 2, 3], max_tokens=None))["a", 0]
    assert (len(out.token_ids), out.finish_reason) == (13, "length")


def test_a_cached_prefix_is_not_computed_again_but_the_last_token_always_is() -> None:
    harness = Harness(limits())
    asked = request("a", LONG[:16], max_tokens=1)
    harness.run(asked)
    assert harness.runner.num_computed == 16
    harness.run(request("b", LONG[:16], max_tokens=1))
    assert harness.runner.num_computed == 16 + 4  # 12 of 16 are whole pages before the last token
    assert harness.outputs["b", 0].num_cached_tokens == 12
    assert harness.tokens("a") == harness.tokens("b")
    harness.run(request("c", LONG[:17], max_tokens=1))
    assert harness.outputs["c", 0].num_cached_tokens == 16


def test_the_first_token_says_what_was_cached_wherever_the_chunks_of_the_prompt_end() -> None:
    prompt = [1 + i % 7 for i in range(33)]
    harness = Harness(limits(max_num_batched_tokens=8))
    harness.run(request("a", prompt[:24], max_tokens=1))
    harness.add(request("b", prompt, max_tokens=5))
    steps = []
    while harness.core.has_work:
        steps.append([(event.token_ids, event.num_cached_tokens) for event in harness.step()])
    tokens = harness.tokens("b")
    assert steps[:2] == [[], [((tokens[0],), 24)]], "a chunk of 8 tokens leaves the last one of the prompt to itself"
    assert (len(tokens), harness.outputs["b", 0].num_cached_tokens) == (5, 24)


def test_outputs_are_cached_too() -> None:
    harness = Harness(limits())
    harness.run(request("a", LONG[:8], max_tokens=9))
    turn = LONG[:8] + harness.tokens("a") + [1, 2]
    harness.run(request("b", turn))
    assert harness.outputs["b", 0].num_cached_tokens == 16


def test_salts_and_disabled_caching_separate() -> None:
    harness = Harness(limits())
    harness.run(request("a", LONG, salt="x"))
    harness.run(request("b", LONG, salt="y"), request("c", LONG))
    assert [harness.outputs[name, 0].num_cached_tokens for name in "bc"] == [0, 0]
    harness = Harness(limits(enable_prefix_caching=False))
    harness.run(request("a", LONG), request("b", LONG))
    harness.run(request("c", LONG))
    assert harness.outputs["c", 0].num_cached_tokens == 0


def test_equal_prompts_that_arrive_together_are_computed_once() -> None:
    harness = Harness(limits(max_num_batched_tokens=64))
    harness.run(*[request(name, LONG, max_tokens=1) for name in "abcd"])
    assert harness.runner.num_computed == 30 + 3 * 2  # 28 tokens are whole pages
    assert harness.tokens("a") == harness.tokens("b") == harness.tokens("c") == harness.tokens("d")


def test_a_request_waits_only_for_blocks_that_it_shares() -> None:
    harness = Harness(limits(max_num_batched_tokens=64))
    harness.add(request("a", LONG), request("same", LONG), request("other", LONG[1:]))
    harness.step()
    assert len(harness.runner.steps[0].rows) == 2
    harness.run()


def test_a_request_that_waits_for_a_shared_block_is_not_overtaken_for_the_last_slot() -> None:
    harness = Harness(limits(max_num_batched_tokens=64, max_num_seqs=2))
    harness.add(request("a", LONG), request("same", LONG), request("other", LONG[1:]))
    harness.step()
    harness.step()
    running = [seq.request_id for seq in harness.core.scheduler.running]
    assert running == ["a", "same"]
    harness.run()


def test_completions_share_the_prompt_and_copy_its_partial_tail() -> None:
    lim = limits()
    harness = Harness(lim)
    asked = request("a", LONG, n=4, temperature=1.0, max_tokens=6)
    harness.run(asked)
    for index in range(4):
        assert harness.tokens("a", index) == expected(lim, asked, completion_seed(7, index))[0]
    assert len({tuple(harness.tokens("a", index)) for index in range(4)}) == 4
    assert harness.runner.num_computed == 30 + 3 + 4 * 5  # one token each for the siblings' first logits
    copies = [len(plan.copies) for plan in harness.runner.plans]
    assert copies[:2] == [0, 3] and sum(copies) == 3


def test_completions_share_even_without_a_prefix_cache_and_at_a_page_border() -> None:
    lim = limits(enable_prefix_caching=False, page_size=1, num_pages=128)
    harness = Harness(lim)
    harness.run(request("a", LONG[:9], n=3, max_tokens=2))
    assert harness.runner.num_computed == 9 + 2 + 3
    assert not any(plan.copies for plan in harness.runner.plans)


def test_completions_that_cannot_run_together_still_all_answer() -> None:
    lim = limits(max_num_seqs=1)
    harness = Harness(lim)
    asked = request("a", LONG, n=3, temperature=1.0)
    harness.run(asked)
    for index in range(3):
        assert harness.tokens("a", index) == expected(lim, asked, completion_seed(7, index))[0]


def test_the_first_seed_is_the_requests_own() -> None:
    seeds = [completion_seed(7, index) for index in range(1000)]
    assert seeds[0] == 7 and len(set(seeds)) == 1000
    assert completion_seed(-1, 0) == 2**64 - 1
    assert all(0 <= completion_seed(-(2**63), index) < 2**64 for index in range(10))


def test_preemption_frees_the_latest_and_it_comes_back_with_the_same_tokens() -> None:
    lim = limits(num_pages=12)
    harness = Harness(lim)
    asked = [request(str(i), [i + 1, i + 2], max_tokens=24, temperature=1.0, seed=i) for i in range(3)]
    harness.run(*asked)
    assert harness.core.stats().num_preemptions > 0
    for one in asked:
        assert harness.tokens(one.request_id) == expected(lim, one, one.sampling.seed or 0)[0]
    returned = [row for plan in harness.runner.plans for row in plan.new_rows if len(row.token_ids) > row.num_prompt]
    assert returned and all(row.num_prompt == 2 for row in returned)


def test_the_first_is_never_preempted() -> None:
    harness = Harness(limits(num_pages=10))
    harness.add(*[request(str(i), [i + 1] * 3, max_tokens=30) for i in range(5)])
    while harness.core.has_work:
        first = min((seq.key for seq in harness.core.scheduler.running), default=None)
        before = {seq.key: len(seq.tokens) for seq in harness.core.scheduler.running}
        harness.step()
        after = {seq.key: len(seq.tokens) for seq in harness.core.scheduler.running}
        assert first is None or first not in after or after[first] > before[first]
    assert harness.core.stats().num_preemptions > 0


def test_a_prompt_larger_than_the_pool_is_an_error_with_numbers() -> None:
    out = Harness(limits(num_pages=5)).run(request("a", LONG, n=2))
    assert {key: value.finish_reason for key, value in out.items()} == {("a", 0): "error", ("a", 1): "error"}
    assert "30 tokens" in (out["a", 0].error or "") and "has 5" in (out["a", 0].error or "")


def test_a_sequence_that_outgrows_the_pool_ends_by_length() -> None:
    lim = limits(num_pages=5)
    out = Harness(lim).run(request("a", [1] * 10, max_tokens=100))["a", 0]
    assert (out.finish_reason, len(out.token_ids)) == ("length", 11)  # the 21st token is drawn, but not stored


def test_a_window_lets_a_sequence_outlive_the_pool() -> None:
    lim = limits(num_pages=5, groups=(KvGroup("w", 8),))
    out = Harness(lim).run(request("a", LONG, max_tokens=60))["a", 0]
    assert (out.finish_reason, len(out.token_ids)) == ("length", 60)
    assert out.token_ids == expected(lim, request("a", LONG, max_tokens=60), 7)[0]


def test_abort_frees_pages_in_the_same_step() -> None:
    harness = Harness(limits(max_num_batched_tokens=8))
    harness.add(request("a", LONG, n=2), request("b", LONG[3:]))
    harness.step()
    assert harness.core.stats().kv_pages_used > 0  # in the middle of the prompt
    harness.core.abort("a")
    harness.core.abort("b")
    harness.core.abort("unknown")
    assert harness.core.stats().kv_pages_used == 0
    events = harness.step()
    assert [(e.request_id, e.index, e.finish_reason) for e in events] == [
        ("a", 0, "abort"), ("a", 1, "abort"), ("b", 0, "abort"),
    ]  # fmt: skip
    assert not harness.core.has_work


def test_abort_while_a_step_is_in_flight_drops_its_result() -> None:
    harness = Harness(limits())
    harness.add(request("a", LONG[:8]), request("b", LONG[1:9]))
    assert harness.core.launch()
    harness.core.abort("a")
    harness.core.scheduler.check()
    harness.add(request("c", LONG[:8]))  # may take the same pages in the next step
    harness.take(harness.core.land())
    assert harness.outputs["a", 0].finish_reason == "abort" and not harness.outputs["a", 0].token_ids
    harness.run()
    assert harness.outputs["c", 0].num_cached_tokens == 0  # what was dropped is not published
    assert harness.tokens("c") == expected(harness.limits, request("c", LONG[:8]), 7)[0]


def test_one_completion_can_be_aborted_alone() -> None:
    lim = limits()
    harness = Harness(lim)
    asked = request("a", LONG, n=3, temperature=1.0)
    harness.add(asked)
    harness.step()
    harness.core.abort("a", 0)  # the one that the others would fork from
    harness.run()
    assert harness.outputs["a", 0].finish_reason == "abort"
    assert harness.tokens("a", 2) == expected(lim, asked, completion_seed(7, 2))[0]


def test_prompt_logprobs_come_whole_and_do_not_read_the_cache() -> None:
    harness = Harness(limits(max_num_batched_tokens=8))
    harness.run(request("warm", LONG))
    harness.run(request("a", LONG, prompt_logprobs=0, n=2))
    alone = Harness(limits())
    alone.run(request("a", LONG, prompt_logprobs=0))
    assert harness.outputs["a", 0].prompt_logprobs == alone.outputs["a", 0].prompt_logprobs
    assert [entry.token_id for entry in alone.outputs["a", 0].prompt_logprobs] == LONG[1:]
    assert harness.outputs["a", 0].num_cached_tokens == 0
    assert harness.outputs["a", 1].prompt_logprobs == []


def test_prompt_logprobs_survive_a_preemption_in_mid_prompt() -> None:
    lim = limits(num_pages=10, max_num_batched_tokens=4)
    harness = Harness(lim)
    harness.add(request("old", [9, 9], max_tokens=30))
    harness.step()
    harness.run(request("a", LONG[:20], prompt_logprobs=0, max_tokens=4))
    alone = Harness(limits())
    alone.run(request("a", LONG[:20], prompt_logprobs=0, max_tokens=4))
    assert harness.outputs["a", 0] == alone.outputs["a", 0]


def test_prompt_logprobs_keep_to_the_budget_of_logits() -> None:
    harness = Harness(limits(max_samples=8))
    harness.add(request("a", [1, 2], max_tokens=20))
    harness.step()
    harness.run(request("b", LONG, prompt_logprobs=0), request("c", LONG[::-1]))
    chunks = [row.num_tokens for plan in harness.runner.steps for row in plan.rows if row.prompt_logprobs_from >= 0]
    assert sum(chunks) == 30 and 6 <= max(chunks) <= 7
    assert len(harness.outputs["b", 0].prompt_logprobs) == 29


def test_logprobs_follow_the_tokens() -> None:
    out = Harness(limits()).run(request("a", LONG, logprobs=0))["a", 0]
    assert [entry.token_id for entry in out.logprobs] == out.token_ids


@pytest.mark.parametrize("window", [1, 3, 4, 5, 8, 11])
def test_window_groups_give_pages_back_and_still_serve_hits(window: int) -> None:
    lim = limits(groups=(FULL, KvGroup("w", window)), num_pages=64)
    harness = Harness(lim)
    asked = request("a", LONG, max_tokens=40)
    harness.add(asked)
    most = 0
    while harness.core.has_work:
        harness.step()
        for seq in harness.core.scheduler.running:
            if seq.num_output > 1:
                most = max(most, sum(page >= 0 for page in seq.tables[1]))
    assert harness.tokens("a") == expected(lim, asked, 7)[0]
    assert most <= (window + 2) // 4 + 2
    turn = request("b", LONG + harness.tokens("a"), max_tokens=10)
    harness.run(turn)
    assert harness.outputs["b", 0].num_cached_tokens == 68
    assert harness.tokens("b") == expected(lim, turn, 7)[0]
    first = next(plan.rows[0] for plan in reversed(harness.runner.steps) if plan.new_rows)
    assert first.start == 68
    assert first.new_pages[1].count(-1) == max(0, 68 - window + 1) // 4


def test_pages_out_of_reach_are_free_for_others_as_soon_as_a_chunk_is_computed() -> None:
    lim = limits(groups=(KvGroup("w", 4),), num_pages=10, page_size=4, max_num_batched_tokens=64, max_model_len=128)
    harness = Harness(lim)
    harness.add(request("old", [1] * 7, max_tokens=40))
    harness.step()
    harness.run(request("long", LONG * 3, max_tokens=2))  # its chunks take every free page
    assert harness.core.stats().num_preemptions == 0


def test_a_hit_is_the_longest_that_all_groups_can_serve() -> None:
    lim = limits(groups=(FULL, KvGroup("w", 4)), num_pages=40)
    harness = Harness(lim)
    harness.run(request("a", LONG, max_tokens=1))
    pool = harness.core.scheduler.space.pool
    cached = pool._cached[1]
    for page in list(cached.values())[-2:]:
        pool._forget(page)  # the window group has lost the last two pages of the prefix
    harness.run(request("b", LONG, max_tokens=1))
    assert harness.outputs["b", 0].num_cached_tokens == 20
    assert harness.tokens("a") == harness.tokens("b")


def test_allocated_pages_are_zeroed_and_freed_slots_are_told() -> None:
    harness = Harness(limits(num_pages=8))
    harness.run(request("a", LONG[:8], max_tokens=2))
    harness.run(request("b", LONG[5:20], max_tokens=2))
    zeroed = [page for plan in harness.runner.plans for page in plan.zero_pages]
    given = [page for plan in harness.runner.steps for row in plan.rows for page in row.new_pages[0]]
    assert zeroed == given
    assert harness.runner.plans[2].free_slots == (0,)


def test_stats_count() -> None:
    harness = Harness(limits())
    harness.run(request("a", LONG, n=2, max_tokens=3))
    harness.run(request("b", LONG, max_tokens=3))
    stats = harness.core.stats()
    assert (stats.prompt_tokens, stats.cached_prompt_tokens, stats.generation_tokens) == (60, 28, 9)
    assert (stats.num_running, stats.num_waiting, stats.kv_pages_used, stats.kv_pages_total) == (0, 0, 0, 64)
    assert stats.num_steps == len(harness.runner.plans) and stats.step_seconds > 0


def test_the_lineup_is_one_object_while_nobody_comes_or_goes() -> None:
    harness = Harness(limits())
    harness.run(*[request(f"r{i}", [i + 1, 2], max_tokens=20 + 10 * (i == 2)) for i in range(3)])
    lineups = [plan.decodes for plan in harness.runner.plans]
    assert lineups[0] == () and all(lineup is lineups[1] for lineup in lineups[1:20])
    assert lineups[1] == (0, 1, 2) and lineups[20] == (2,)
    with_pages = [plan for plan in harness.runner.plans if plan.decode_pages]
    assert all(len(plan.decode_pages) == len(plan.decodes) for plan in with_pages) and 5 < len(with_pages) < 10


def test_the_completions_of_a_prompt_of_one_token_start_together() -> None:
    harness = Harness(limits())
    outputs = harness.run(request("r", [3], n=4, temperature=1.0, max_tokens=3))
    assert len(harness.runner.steps[0].rows) == 4 and len(harness.runner.plans) == 3
    assert len({tuple(out.token_ids) for out in outputs.values()}) > 1


def test_a_turn_hands_out_one_step_while_the_next_is_in_flight() -> None:
    harness = Harness(limits())
    harness.add(request("a", [1, 2], max_tokens=3), request("b", [3], max_tokens=30))
    assert len(harness.core.turn()) == 0 and harness.runner.begun is not None
    for _ in range(3):
        events = harness.core.turn()
        assert len(events) == 2 and harness.runner.begun is not None
        harness.take(events)
    assert harness.outputs["a", 0].finish_reason == "length"
    harness.core.abort("b")  # in flight: its result is dropped, and the step is still landed
    harness.take(harness.core.turn())
    assert harness.outputs["b", 0].finish_reason == "abort" and len(harness.tokens("b")) == 3
    assert not harness.core.has_work and harness.runner.begun is None
    harness.core.scheduler.check()
