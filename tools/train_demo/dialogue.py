"""What a generated dialogue is, and the draw that keeps training and test apart.

Every task picks its wording through Draw.phrase and its content through Draw.combo. Both are decided for one split by
a fixed rule (a wording is listed as held; a content key falls into the held share by its hash), so the two splits
cannot overlap whatever the seeds are. Knows no task.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

TRAIN, TEST = "train", "test"
HELD_SHARE = 0.08

Message = dict[str, Any]


@dataclass(frozen=True)
class Phrasings:
    """Wordings of one request, with str.format fields: `train` are taught, `held` appear in the test split only."""

    group: str
    train: tuple[str, ...]
    held: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dialogue:
    """A conversation that ends with the assistant; `phrasings` and `combos` name what it was made of."""

    category: str
    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()
    phrasings: tuple[str, ...] = ()
    combos: tuple[str, ...] = ()
    held: tuple[str, ...] = ()

    @property
    def answer(self) -> Message:
        """The last message, which a test compares exactly."""
        return self.messages[-1]


class Rejected(Exception):
    """The drawn content belongs to the other split; draw again."""


@dataclass
class Draw:
    """One attempt at a dialogue: a source of chance that knows its split and records what was held out."""

    rng: random.Random
    split: str
    phrasings: list[str] = field(default_factory=list)
    combos: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)

    def phrase(self, group: Phrasings, **fields: object) -> str:
        """One wording of the group, filled in; in the test split a held one in three of five draws."""
        pool, held = group.train, False
        if self.split == TEST and group.held and self.rng.random() < 0.6:
            pool, held = group.held, True
        index = self.rng.randrange(len(pool))
        name = f"{group.group}/{'held' if held else 'train'}/{index}"
        self.phrasings.append(name)
        if held:
            self.held.append(name)
        return pool[index].format(**fields)

    def combo(self, *parts: object, share: float = HELD_SHARE) -> None:
        """Claim this content for the dialogue; Rejected in training when its hash lies in the held share."""
        key = "|".join(str(p) for p in parts)
        self.combos.append(key)
        if is_held(key, share):
            if self.split == TRAIN:
                raise Rejected
            self.held.append(key)

    def pick(self, items: Sequence[Any]) -> Any:
        """A uniform choice."""
        return items[self.rng.randrange(len(items))]

    def chance(self, p: float) -> bool:
        """True with probability p."""
        return self.rng.random() < p

    def noise(self, text: str) -> str:
        """The small carelessness of people: lower-case start, no final mark, a greeting before."""
        roll = self.rng.random()
        if roll < 0.10 and not text.startswith("I "):
            text = text[:1].lower() + text[1:]
        if 0.05 < roll < 0.17 and text.endswith(("?", ".")):
            text = text[:-1]
        if 0.20 < roll < 0.24:
            text = "Please: " + text
        if 0.24 < roll < 0.27:
            text = "Hello. " + text
        return text


def is_held(key: str, share: float) -> bool:
    """Whether a content key belongs to the test split: a fixed function of the key alone."""
    digest = hashlib.blake2b(key.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") < share * 2**32


def user(text: str) -> Message:
    """A user's message."""
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    """An assistant's message."""
    return {"role": "assistant", "content": text}


def system(text: str) -> Message:
    """A system message."""
    return {"role": "system", "content": text}


@dataclass(frozen=True)
class Made:
    """What a task returns: messages, and the tools offered."""

    messages: list[Message]
    tools: list[dict[str, Any]] = field(default_factory=list)


Task = Callable[[Draw], Made]

SYSTEMS = (
    "You are a helpful assistant.",
    "You are a helpful assistant.",
    "You are a helpful assistant.",
    "You are a friendly assistant.",
    "You are an assistant.",
    "Be brief.",
    "Answer the question.",
    "You are a helpful AI assistant.",
    "You are octavo-demo.",
    "You are a helpful and honest assistant.",
    "Answer in short sentences.",
    "You are a careful assistant. Keep answers short.",
)


def make(task: Task, category: str, rng: random.Random, split: str) -> Dialogue:
    """Draw until the task yields a dialogue of the split: nothing held in training, something held in a test."""
    while True:
        draw = Draw(rng, split)
        try:
            made = task(draw)
        except Rejected:
            continue
        if (split == TEST) != bool(draw.held):
            continue
        messages = made.messages
        if messages[0]["role"] != "system" and not made.tools and rng.random() < 0.3:
            messages = [system(rng.choice(SYSTEMS)), *messages]
        return Dialogue(
            category, tuple(messages), tuple(made.tools), tuple(draw.phrasings), tuple(draw.combos), tuple(draw.held)
        )
