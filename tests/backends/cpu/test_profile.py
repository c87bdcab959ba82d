"""The profile of a program: which stages it names, and that its sums are those of its chunks."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from octavo.backends.cpu import CpuBackend
from octavo.backends.cpu.planner import FUSIONS
from octavo.backends.cpu.profile import StageWeight
from octavo.backends.cpu.program import CpuProgram
from octavo.backends.ops import ProgramLimits
from tests.backends.cpu import tiny

LIMITS = ProgramLimits(max_tokens=24, max_rows=2, max_samples=9, max_context=64)


def program(threads: int = 2) -> CpuProgram:
    found = tiny.load(CpuBackend(threads=threads), "Q8_0").program(LIMITS, 10)
    assert isinstance(found, CpuProgram)
    return found


def test_stages_are_named_and_counted() -> None:
    profiled = program()
    tokens = tiny.random_tokens(8, 9)
    plain = tiny.run_chunks(profiled, tokens, lambda _: 3)[0]
    profiled.profile(True, max_events=10_000)
    assert np.array_equal(tiny.run_chunks(profiled, tokens, lambda _: 3)[0], plain)
    times, events = profiled.take_profile(), profiled.take_events()
    assert [time.info.index for time in times] == list(range(profiled.num_stages))
    assert {time.info.kind for time in times} == {"rows", "linear", "gated", "attention", "merge"}
    gated = next(time for time in times if time.info.kind == "gated")
    shape = (tiny.INNER, tiny.HIDDEN)
    assert gated.info.weights == tuple(StageWeight(f"0.{name}", "Q8_0", shape) for name in ("gate", "up"))
    for time in times:
        # Three steps of three tokens, all of which are sampled; rows too short for splits leave nothing to merge.
        expected = (0, 0) if time.info.kind == "merge" else (3, 9)
        assert (time.runs, time.rows if time.runs else 0) == expected
        own = [event for event in events if event.stage == time.info.index]
        assert len(own) == time.chunks
        assert time.work_s == pytest.approx(1e-9 * sum(event.end_ns - event.begin_ns for event in own))
        assert time.work_s <= 2 * time.wall_s
    for worker in (0, 1):
        own = [event for event in events if event.worker == worker]
        assert all(a.end_ns <= b.begin_ns for a, b in pairwise(own))
    assert {event.worker for event in events} <= {0, 1}


def test_takes_begin_anew_and_events_are_bounded() -> None:
    profiled = program(threads=1)
    tokens = tiny.random_tokens(8, 4)
    profiled.profile(True, max_events=5)
    tiny.run_chunks(profiled, tokens, lambda _: 4)
    assert sum(time.chunks for time in profiled.take_profile()) > 5
    assert len(profiled.take_events()) == 5
    assert profiled.take_events() == []
    assert all(time.chunks == time.runs == time.rows == 0 == time.wall_s for time in profiled.take_profile())


def test_off_there_is_nothing_to_take() -> None:
    profiled = program(threads=1)
    for take in (profiled.take_profile, profiled.take_events):
        with pytest.raises(RuntimeError, match="not profiled"):
            take()
    profiled.profile(True)
    profiled.profile(False)
    with pytest.raises(RuntimeError, match="not profiled"):
        profiled.take_profile()


def test_every_fusion_saves_stages_or_memory() -> None:
    """What `--no-fusion` leaves out is really left out."""
    backend = CpuBackend(threads=1)
    model = tiny.load(backend, "Q8_0")
    full = model.program(LIMITS, 10)
    assert isinstance(full, CpuProgram)
    for fusion in FUSIONS:
        partly = model.program(LIMITS, 10, fusions=FUSIONS - {fusion})
        assert isinstance(partly, CpuProgram)
        assert partly.scratch_bytes > full.scratch_bytes or partly.num_stages > full.num_stages
