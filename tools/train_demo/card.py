"""The model card and the question set, written from measured outcomes and from nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tools.train_demo.evaluate import Outcome, invented_share, table
from tools.train_demo.recipe import DemoConfig, Recipe
from tools.train_demo.template import wrap_tools

_CARD = """\
# octavo-demo

A chat model of {parameters:.1f} million parameters that ships with Octavo, so that every command works with no
argument and no network. **It is a toy.** It answers the kinds of questions listed below in one short sentence, knows
nothing else, and is made for demonstrations, tests and quantization reports. Do not rely on what it says.

| | |
|---|---|
| Architecture | Llama: {layers} layers, hidden {hidden}, feed-forward {ffn}, {heads} heads over {kv}, untied head |
| Vocabulary | {vocab} entries, byte-level BPE, pre-tokenizer `smollm` (every digit alone) |
| Context | {context} positions; trained on dialogues of up to about 300 tokens |
| File | GGUF, Q8_0 matrices, float32 norms, chat template inside ({size:.1f} MB) |
| Chat format | ChatML; tools in the system message, calls as JSON in `<tool_call>` ... `</tool_call>` |
| Licence | Apache-2.0 |
| Training data | dialogues made by `tools/train_demo`; no text of any other origin |
| Training | {dialogues:,} dialogues in {steps:,} steps; {time} |

## Measured

Greedy answers of the shipped file (its Q8_0 weights, dequantized to float32), exact match, on {asked:,} held-out
questions (`questions.jsonl`). Every one has a wording, an operand pair, a combination of entities or a schema that
training never drew; `python -m tools.train_demo.check_split` asserts it over all of the training data.

| Category | Right | Of | Share |
|---|---:|---:|---:|
{rows}
| **All** | {right} | {asked} | {share:.1%} |

Invented answers among the {unknowable} unknowable questions: {invented:.1%}.

Where a held-out question starts from a known fact in a new wording, the fact itself was taught: a model of this size
cannot know what it was not told. Arithmetic is taught for sums and differences of numbers to 99 and products to
12 x 12; outside these ranges the answers are wrong. Spelling and counting letters work for the words and names of
`tools/train_demo/words.py`: a word that it never saw spelled, it cannot spell.
{note}"""


@dataclass(frozen=True)
class Facts:
    """What the card says of a run beside its outcomes: `size_bytes` of the GGUF, the time in words, a note or ""."""

    parameters: int
    size_bytes: int
    time: str
    note: str


def model_card(outcomes: list[Outcome], cfg: DemoConfig, recipe: Recipe, facts: Facts) -> str:
    """The card's text."""
    rows = table(outcomes)
    right, asked = sum(r for _, r, _ in rows), sum(n for _, _, n in rows)
    return _CARD.format(
        parameters=facts.parameters / 1e6,
        layers=cfg.num_layers,
        hidden=cfg.hidden_size,
        ffn=cfg.intermediate_size,
        heads=cfg.num_heads,
        kv=cfg.num_kv_heads,
        vocab=cfg.vocab_size,
        context=cfg.max_positions,
        size=facts.size_bytes / 1e6,
        dialogues=recipe.steps * recipe.workers * recipe.dialogues,
        steps=recipe.steps,
        time=facts.time,
        asked=asked,
        right=right,
        share=right / asked,
        rows="\n".join(f"| {c} | {r} | {n} | {r / n:.1%} |" for c, r, n in rows),
        unknowable=sum(o.dialogue.category == "unknowable" for o in outcomes),
        invented=invented_share(outcomes),
        note=f"\n{facts.note}\n" if facts.note else "",
    )


def question_lines(outcomes: list[Outcome]) -> str:
    """One JSON object a line: category, messages, tools, the expected text, and whether the model gave it."""
    lines = []
    for o in outcomes:
        row: dict[str, object] = {"category": o.dialogue.category, "messages": list(o.dialogue.messages[:-1])}
        if o.dialogue.tools:
            row["tools"] = wrap_tools(o.dialogue)
        lines.append(json.dumps(row | {"expected": o.expected, "correct": o.correct}, ensure_ascii=False))
    return "\n".join(lines) + "\n"
