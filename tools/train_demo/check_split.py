"""Asserts that nothing of the test set was taught: wordings, contents and whole questions.

Reads every dialogue that the recipe draws in training (a minute for two hundred thousand), or a part of them.
Run: python -m tools.train_demo.check_split
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import islice

from tools.train_demo.corpus import test_set, training, training_seed
from tools.train_demo.dialogue import SYSTEMS, Dialogue
from tools.train_demo.recipe import QUESTIONS_PER_CATEGORY, Recipe, shares_at


def taught_dialogues(recipe: Recipe) -> Iterator[Dialogue]:
    """Every dialogue of a training run, in no particular order."""
    for step in range(recipe.steps):
        for worker in range(recipe.workers):
            seed = training_seed(recipe.seed, step, worker, recipe.workers)
            yield from islice(training(seed, shares_at(step)), recipe.dialogues)


def question(dialogue: Dialogue) -> str:
    """What is asked, without a system message that adds nothing: equal questions teach each other's answer."""
    messages = [m for m in dialogue.messages[:-1] if m["role"] != "system" or m["content"] not in SYSTEMS]
    return json.dumps([messages, dialogue.tools], sort_keys=True)


def check_split(taught: Iterable[Dialogue], tests: list[Dialogue]) -> int:
    """Raise ValueError at the first overlap; returns how many taught dialogues were read."""
    held = {key for t in tests for key in t.held}
    asked = {question(t) for t in tests}
    for t in tests:
        if not t.held:
            raise ValueError(f"nothing is held out in the test {question(t)}")
    count = 0
    for d in taught:
        count += 1
        overlap = held.intersection((*d.phrasings, *d.combos))
        if overlap:
            raise ValueError(f"{sorted(overlap)} are held out, yet training has them: {question(d)}")
        if question(d) in asked:
            raise ValueError(f"a question of the test set was taught: {question(d)}")
    return count


if __name__ == "__main__":
    tests = test_set(QUESTIONS_PER_CATEGORY)
    print(f"{check_split(taught_dialogues(Recipe()), tests)} taught dialogues, {len(tests)} questions, no overlap")
