"""Greedy exact match of the held-out set by category, and the share of invented answers on unknowable questions."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from tools.train_demo.dialogue import Dialogue
from tools.train_demo.model import DemoModel, KvCache
from tools.train_demo.template import IM_END, question_and_answer

HONEST = "I do not know"


@dataclass(frozen=True)
class Outcome:
    """One question, what was right and what the model said."""

    dialogue: Dialogue
    prompt: str
    expected: str
    said: str

    @property
    def correct(self) -> bool:
        """Exact equality of the text."""
        return self.expected == self.said

    @property
    def invented(self) -> bool:
        """An answer where none can be known."""
        return self.dialogue.category == "unknowable" and not self.said.startswith(HONEST)


@torch.no_grad()
def generate(model: DemoModel, prompts: list[list[int]], stop: int, limit: int) -> list[list[int]]:
    """Greedy continuations of several prompts at once (padded on the left), each up to `stop` or `limit` tokens."""
    longest = max(len(p) for p in prompts)
    ids = torch.tensor([[stop] * (longest - len(p)) + p for p in prompts])
    real = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts]).bool()
    positions = (real.long().cumsum(1) - 1).clamp(min=0)
    mask = real[:, None, None, :] & torch.ones(longest, longest).tril().bool() | torch.eye(longest).bool()
    out: list[list[int]] = [[] for _ in prompts]
    done = [False] * len(prompts)
    cache: KvCache | None = None
    for _ in range(limit):
        hidden, cache = model.hidden(ids, positions, cache, mask)
        best = model.logits(hidden[:, -1]).argmax(-1)
        for i, token in enumerate(best.tolist()):
            done[i] = done[i] or token == stop
            if not done[i]:
                out[i].append(token)
        if all(done):
            break
        ids, positions = best[:, None], positions[:, -1:] + 1
        real = torch.cat((real, torch.ones(len(prompts), 1, dtype=torch.bool)), 1)
        mask = real[:, None, None, :]
    return out


def ask(model: DemoModel, tok: Tokenizer, prompts: list[str], batch: int = 50, limit: int = 160) -> list[str]:
    """The model's answers to rendered prompts, in their order."""
    encoded = [tok.encode(p, add_special_tokens=False).ids for p in prompts]
    order = sorted(range(len(prompts)), key=lambda i: len(encoded[i]))
    said = [""] * len(prompts)
    stop = tok.token_to_id(IM_END)
    for at in range(0, len(order), batch):
        rows = order[at : at + batch]
        for i, ids in zip(rows, generate(model, [encoded[i] for i in rows], stop, limit), strict=True):
            said[i] = tok.decode(ids, skip_special_tokens=False)
    return said


def evaluate(model: DemoModel, tok: Tokenizer, dialogues: list[Dialogue]) -> list[Outcome]:
    """Ask every question of the set."""
    asked = [question_and_answer(d) for d in dialogues]
    said = ask(model, tok, [prompt for prompt, _ in asked])
    return [Outcome(d, p, e, s) for d, (p, e), s in zip(dialogues, asked, said, strict=True)]


def table(outcomes: list[Outcome]) -> list[tuple[str, int, int]]:
    """(category, right, asked) in the order of first appearance."""
    right: dict[str, int] = defaultdict(int)
    asked: dict[str, int] = defaultdict(int)
    for o in outcomes:
        asked[o.dialogue.category] += 1
        right[o.dialogue.category] += o.correct
    return [(c, right[c], n) for c, n in asked.items()]


def invented_share(outcomes: list[Outcome]) -> float:
    """Invented answers among the unknowable questions."""
    asked = [o for o in outcomes if o.dialogue.category == "unknowable"]
    return sum(o.invented for o in asked) / len(asked)


def restored(model: DemoModel, weights: dict[str, Tensor]) -> DemoModel:
    """The model with other weights of the same names, in evaluation mode."""
    model.load_state_dict(weights)
    return model.eval()
