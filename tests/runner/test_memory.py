"""The memory plan: numbers that add up, refusals with numbers, and nothing promised that the scheduler cannot do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.backends.ops import KvLayout
from octavo.base.config import EngineArgs
from octavo.base.errors import ConfigError, MemoryPlanError
from octavo.base.pages import longest_alone, pages_alone
from octavo.base.types import KvGroup
from octavo.runner import memory
from octavo.runner.memory import MemoryPlan, describe, make_plan
from tests.engine.fake import FULL, limits, request
from tests.engine.harness import Harness

VOCAB = 100
MIB = 1 << 20


class Sizes:
    """A backend that only knows sizes."""

    def weight_bytes(self, info: int) -> int:
        return info

    def scratch_bytes(self, *_: Any) -> int:
        return MIB


def layout(*groups: KvGroup, page_size: int = 16) -> KvLayout:
    """Pages of 16 tokens take 8 KiB."""
    count = len(groups)
    return KvLayout(groups, tuple(range(count)), (0,) * count, 1, 2, 32, "f32", page_size)


def plan(*groups: KvGroup, available: int = 64 * MIB, position: int = 4096, **options: Any) -> MemoryPlan:
    args = EngineArgs(**{"max_num_seqs": 4, **options})
    backend: Any = Sizes()
    infos: Any = {"a": 3 * MIB, "b": MIB}
    forward: Any = None
    return make_plan(args, backend, forward, infos, layout(*groups or (FULL,)), position, VOCAB, available=available)


def test_the_numbers_add_up() -> None:
    made = plan()
    assert made.page_bytes == 8192 and made.weights_bytes == 4 * MIB
    assert made.scratch_bytes == MIB + 4 * (4097 + 256 + VOCAB) * 4  # tokens, a page table and logits for each row
    assert made.num_pages == 4 * 256, "what four sequences of 4096 tokens can use"
    assert made.model_bytes == made.weights_bytes + made.scratch_bytes + made.kv_bytes <= 64 * MIB
    assert made.process_bytes == memory.PROCESS_BYTES + VOCAB * memory.ENTRY_BYTES
    assert made.total_bytes == made.model_bytes + made.process_bytes
    assert (made.max_model_len, made.tokens_that_fit, made.users_at(4096), made.users_at(100)) == (4096, 16384, 4, 4)
    assert made.max_samples >= made.max_num_seqs and made.max_num_batched_tokens == 512
    assert "1024 pages of 16 tokens" in describe(made) and "gpu_memory_utilization" in describe(made)


def test_the_default_takes_a_share_of_what_is_free_and_shortens_the_context_to_it() -> None:
    free = 16 * MIB - plan().weights_bytes - plan().scratch_bytes
    made = plan(available=16 * MIB)
    assert made.num_pages == free // 2 // 8192
    assert made.max_model_len == 4096
    small = plan(available=9 * MIB)
    assert small.max_model_len == small.num_pages * 16 < 4096
    assert any("max_model_len is" in note for note in small.notes)
    assert small.users_at(small.max_model_len) == 1


def test_memory_given_to_pages_is_what_they_take() -> None:
    assert plan(kv_memory_bytes=40 * MIB).num_pages == 40 * MIB // 8192, "more than running sequences need is a cache"
    assert plan(kv_memory_bytes=40 * MIB, max_num_seqs=1).num_pages == 40 * MIB // 8192
    assert plan(kv_memory_bytes=2 * MIB + 5000).kv_bytes == 2 * MIB
    with pytest.raises(MemoryPlanError, match=r"asks for 80.0 MiB.* only 58.9 MiB are free"):
        plan(kv_memory_bytes=80 * MIB)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"available": 4 * MIB}, "weights take 4.0 MiB and scratch 1.0 MiB, but only 4.0 MiB"),
        ({"kv_memory_bytes": 8191}, r"needs 2.0 MiB of KV pages, but only 8.0 KiB are planned for them \(0 tokens\)"),
        ({"kv_memory_bytes": 8192 * 15}, r"\(240 tokens\)"),
        ({"kv_memory_bytes": MIB, "max_model_len": 4096}, r"needs 2.0 MiB .*only 1.0 MiB.*\(2048 tokens\)"),
    ],
)
def test_what_does_not_fit_is_refused_with_numbers(options: dict[str, Any], message: str) -> None:
    with pytest.raises(MemoryPlanError, match=message):
        plan(**options)


def test_a_context_beyond_the_models_is_refused_and_a_huge_one_is_cut_to_what_fits() -> None:
    with pytest.raises(ConfigError, match="8192 is more than the 4096 positions"):
        plan(max_model_len=8192)
    made = plan(position=10_000_000)
    assert 4096 < made.max_model_len < 10_000_000 and made.model_bytes <= 64 * MIB
    assert any("instead of the model's 10000000" in note for note in made.notes)


def test_what_rows_keep_is_planned_for_the_context_that_fits_and_not_for_the_models() -> None:
    """A page of 8 KiB holds 16 tokens: 30 MiB of pages bound a context to 61440 tokens, whatever the model's."""
    huge, long = plan(position=10_000_000), plan(position=1_000_000)
    assert huge.scratch_bytes == long.scratch_bytes == MIB + 4 * (61441 + 3840 + VOCAB) * 4
    assert huge.max_model_len == long.max_model_len == (60 * MIB - huge.scratch_bytes) // 2 // 8192 * 16


def test_a_budget_of_tokens_below_the_number_of_sequences_is_raised_and_says_so() -> None:
    made = plan(max_num_batched_tokens=2, max_num_seqs=8)
    assert made.max_num_batched_tokens == 8
    assert any("max_num_batched_tokens is 8 instead of 2" in note for note in made.notes)
    assert not any("max_num_batched_tokens" in note for note in plan(max_num_batched_tokens=8, max_num_seqs=8).notes)


def test_windows_need_pages_for_what_they_reach_only() -> None:
    window = KvGroup("w", 64)
    assert plan(window, kv_memory_bytes=5 * 8192, max_model_len=4096).max_model_len == 4096
    with pytest.raises(MemoryPlanError):
        plan(window, kv_memory_bytes=4 * 8192, max_model_len=4096)
    mixed = plan(FULL, window, kv_memory_bytes=(256 + 5) * 8192)
    assert mixed.max_model_len == 4096 and mixed.users_at(4096) == 1
    assert plan(FULL, window, kv_memory_bytes=(256 + 4) * 8192).max_model_len == 255 * 16
    assert mixed.users_at(1024) == (256 + 5) // (64 + 5)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.sampled_from([None, 1, 3, 4, 5, 8, 17]), min_size=1, max_size=3),
    st.sampled_from([1, 4, 16]),
    st.integers(3, 30),
    st.sampled_from([1, 7, 64]),
)
def test_the_longest_planned_sequence_runs_and_no_longer_one(
    windows: list[int | None], page_size: int, num_pages: int, budget: int
) -> None:
    groups = tuple(KvGroup(str(i), window) for i, window in enumerate(windows))
    longest = longest_alone(groups, page_size, num_pages, 96)
    if longest < 2:
        return
    assert pages_alone(groups, page_size, longest) <= num_pages
    assert longest == 96 or pages_alone(groups, page_size, longest + 1) > num_pages
    lim = limits(groups=groups, page_size=page_size, num_pages=num_pages, max_model_len=longest,
                 max_num_batched_tokens=budget)  # fmt: skip
    prompt = [1 + i % 5 for i in range(longest // 2)]
    asked = [request(name, prompt, max_tokens=None, prompt_logprobs=0) for name in "ab"]
    for out in Harness(lim).run(*asked).values():
        assert (out.finish_reason, len(out.token_ids)) == ("length", longest - len(prompt))


# ---------------------------------------------------------------- what is free


def cgroup(folder: Path, limit: str, usage: int, stat: str, version: int = 2) -> tuple[Path, str, str]:
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    folder.mkdir()
    (folder / names[0]).write_text(limit + "\n")
    (folder / names[1]).write_text(f"{usage}\n")
    (folder / "memory.stat").write_text(stat)
    return (folder, *names)


def test_cgroups_bound_what_is_free_and_their_page_cache_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = cgroup(tmp_path / "a", str(8 * MIB), 7 * MIB, f"anon 9\nactive_file {MIB}\ninactive_file {4 * MIB}\n")
    outer = cgroup(tmp_path / "b", "max", 900 * MIB, "active_file 5\n")
    monkeypatch.setattr(memory, "_cgroup_files", lambda: [inner, outer, (tmp_path / "absent", "x", "y")])
    assert memory.available_bytes() == 6 * MIB
    old = cgroup(tmp_path / "c", str(8 * MIB), 7 * MIB, f"inactive_file 1\ntotal_inactive_file {2 * MIB}\n", version=1)
    monkeypatch.setattr(memory, "_cgroup_files", lambda: [old])
    assert memory.available_bytes() == 3 * MIB
    full = cgroup(tmp_path / "d", str(8 * MIB), 9 * MIB, "")
    (full[0] / "memory.stat").unlink()
    monkeypatch.setattr(memory, "_cgroup_files", lambda: [full])
    assert memory.available_bytes() == 0
    monkeypatch.setattr(memory, "_cgroup_files", list)
    assert memory.available_bytes() > MIB
