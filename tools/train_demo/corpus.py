"""Streams of dialogues: the endless training mixture and the fixed test set, each a function of its seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping

from tools.train_demo.dialogue import TEST, TRAIN, Dialogue, Task, make
from tools.train_demo.tasks import CATEGORIES, DRILLS

TEST_SEED = 20_260_101


def _task(rng: random.Random, category: str, split: str) -> Task:
    tasks = CATEGORIES[category] + (DRILLS.get(category, ()) if split == TRAIN else ())
    return rng.choices([t for t, _ in tasks], [w for _, w in tasks])[0]


def training_seed(seed: int, step: int, worker: int, workers: int) -> int:
    """The seed of one worker's dialogues at one step of a run."""
    return (seed * 1_000_003 + step) * workers + worker


def training(seed: int, shares: Mapping[str, float]) -> Iterator[Dialogue]:
    """Endless training dialogues, the categories in these shares."""
    rng = random.Random(seed)
    while True:
        category = rng.choices(list(shares), list(shares.values()))[0]
        yield make(_task(rng, category, TRAIN), category, rng, TRAIN)


def test_set(per_category: int, seed: int = TEST_SEED) -> list[Dialogue]:
    """Held-out dialogues, the same number in every category, none with the same messages as another."""
    out: list[Dialogue] = []
    for category in CATEGORIES:
        rng = random.Random(f"{seed}/{category}")
        seen: set[str] = set()
        attempts = 0
        while len(seen) < per_category and attempts < per_category * 50:
            attempts += 1
            dialogue = make(_task(rng, category, TEST), category, rng, TEST)
            key = repr((dialogue.messages, dialogue.tools))
            if key not in seen:
                seen.add(key)
                out.append(dialogue)
    return out
