"""The profile of a step: its stops exist, and their times add up to the whole."""

from __future__ import annotations

import time

from benchmarks.step_profile import STOPS, Clock


def test_time_is_charged_to_the_innermost_stop() -> None:
    clock = Clock()
    inner = clock.timed("inner", lambda: time.sleep(0.02))

    def work() -> None:
        time.sleep(0.01)
        inner()

    clock.timed("outer", work)()
    assert clock.wall_s["inner"] >= 0.02
    assert clock.wall_s["outer"] >= 0.01
    assert set(clock.cpu_s) == {"inner", "outer"}
    clock.reset()
    assert not clock.wall_s


def test_the_stops_are_there() -> None:
    assert all(callable(getattr(owner, method)) for _, owner, method in STOPS)
