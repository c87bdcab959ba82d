"""A long random life of one engine: no page is lost, no budget exceeded, nobody starves."""

from __future__ import annotations

import random

import pytest

from octavo.base.types import KvGroup
from tests.engine.fake import FULL, limits
from tests.engine.harness import Harness
from tests.engine.test_equality import random_request


def live(seed: int, num_steps: int) -> Harness:
    """Random arrivals, cancellations (also in flight) and forks in a tiny pool; accounts proved after every step."""
    rng = random.Random(seed)
    groups = rng.choice([(FULL,), (FULL, KvGroup("w", 6)), (KvGroup("w", 5),)])
    lim = limits(
        groups=groups,
        num_pages=rng.choice([8, 12, 20]) * len(groups),
        max_num_seqs=rng.choice([4, 8]),
        max_num_batched_tokens=rng.choice([4, 16]),
        max_model_len=48,
        max_samples=rng.choice([0, 8]),
    )
    harness = Harness(lim)
    waiting_since: dict[str, int] = {}
    for step in range(num_steps):
        open_ids = list(dict.fromkeys(name for (name, _), out in harness.outputs.items() if not out.finish_reason))
        if len(open_ids) < 10 and rng.random() < 0.3:
            one = random_request(rng, f"r{step}", lim)
            harness.add(one)
            waiting_since[one.request_id] = step
        in_flight = rng.random() < 0.5 and harness.core.launch()
        if open_ids and rng.random() < 0.05:
            harness.core.abort(rng.choice(open_ids), rng.choice([None, 0, 1]))
            harness.core.scheduler.check()
        assert in_flight is False or harness.core.has_work
        harness.step()
        for key, out in list(harness.outputs.items()):
            if out.finish_reason:
                del harness.outputs[key]
        # nothing with this little work ahead of it takes longer than all of it one token at a time
        for name in {name for name, _ in harness.outputs}:
            assert step - waiting_since[name] < 10 * 4 * 48 * 4, f"{name} starves"
    harness.outputs = {key: out for key, out in harness.outputs.items() if not out.finish_reason}
    harness.run()
    scheduler = harness.core.scheduler
    assert not scheduler._siblings and not scheduler._in_flight, "something is kept of requests that have ended"
    assert len(harness.runner.rows) <= lim.max_num_seqs
    assert sum(map(len, scheduler.space.pool._cached)) <= lim.num_pages
    return harness


@pytest.mark.parametrize("seed", range(4))
def test_random_life(seed: int) -> None:
    live(seed, 2500)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10, 18))
def test_ten_thousand_random_steps(seed: int) -> None:
    live(seed, 10_000)
