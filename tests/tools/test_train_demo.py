"""The demo model's generator: splits that cannot meet, answers that are right, one template, one shipped file."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from tools.train_demo import tables, words
from tools.train_demo.check_split import check_split, question, taught_dialogues
from tools.train_demo.corpus import test_set as draw_test_set
from tools.train_demo.corpus import training
from tools.train_demo.dialogue import TEST, TRAIN, Dialogue, assistant, is_held, make, user
from tools.train_demo.recipe import QUESTIONS_PER_CATEGORY, SHARES, Recipe, shares_at
from tools.train_demo.tasks import CATEGORIES
from tools.train_demo.template import CHAT_TEMPLATE, pieces, question_and_answer, render, wrap_tools

DEMO = Path(__file__).parents[2] / "octavo" / "demo"
SUM = re.compile(r"(\d+) ([-+*]) (\d+) = (\d+)")


@pytest.fixture(scope="module")
def taught() -> list[Dialogue]:
    return list(islice(training(11, shares_at(0)), 6000))


@pytest.fixture(scope="module")
def tests() -> list[Dialogue]:
    return draw_test_set(QUESTIONS_PER_CATEGORY)


def test_every_category_is_drawn_in_both_splits(taught: list[Dialogue], tests: list[Dialogue]) -> None:
    assert {d.category for d in taught} == set(CATEGORIES)
    assert {d.category for d in tests} == set(CATEGORIES)
    assert len(tests) == QUESTIONS_PER_CATEGORY * len(CATEGORIES)
    for _, shares in SHARES:
        assert set(shares) == set(CATEGORIES)
        assert sum(shares.values()) == pytest.approx(1)


def test_generation_is_a_function_of_the_seed() -> None:
    assert list(islice(training(3, shares_at(0)), 50)) == list(islice(training(3, shares_at(0)), 50))
    assert draw_test_set(5) == draw_test_set(5)


def test_nothing_of_the_test_set_is_taught(tests: list[Dialogue]) -> None:
    recipe = replace(Recipe(), steps=60)
    assert check_split(taught_dialogues(recipe), tests) == 60 * recipe.workers * recipe.dialogues


def test_the_split_check_finds_an_overlap(taught: list[Dialogue], tests: list[Dialogue]) -> None:
    leaked = replace(taught[0], combos=(tests[0].held[0],))
    with pytest.raises(ValueError, match="held out"):
        check_split([leaked], tests)
    with pytest.raises(ValueError, match="was taught"):
        check_split([replace(tests[0], phrasings=(), combos=(), held=())], tests)
    with pytest.raises(ValueError, match="nothing is held out"):
        check_split([], [taught[0]])


def test_held_content_never_passes_a_training_draw() -> None:
    rng = random.Random(5)
    task = CATEGORIES["arithmetic"][0][0]
    drawn = [make(task, "arithmetic", rng, TRAIN) for _ in range(300)]
    assert not any(is_held(key, 0.08) for d in drawn for key in d.combos)
    held = [make(task, "arithmetic", rng, TEST) for _ in range(50)]
    assert all(d.held for d in held)


def test_sums_in_answers_are_right(taught: list[Dialogue], tests: list[Dialogue]) -> None:
    checked = 0
    for d in (*taught, *tests):
        for m in d.messages:
            for a, sign, b, c in SUM.findall(m["content"]) if m["role"] == "assistant" else ():
                value = {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b)}[sign]
                assert value == int(c), m["content"]
                checked += 1
    assert checked > 1000


def test_json_answers_hold_what_the_sentence_says(taught: list[Dialogue]) -> None:
    checked = 0
    for d in taught:
        if d.category == "extraction" and d.answer["content"].startswith("{"):
            for value in json.loads(d.answer["content"]).values():
                assert value is None or str(value) in d.messages[-2]["content"]
            checked += 1
    assert checked > 200


def test_calls_obey_the_offered_schema(taught: list[Dialogue]) -> None:
    checked = 0
    for d in taught:
        for call in (c for m in d.messages for c in m.get("tool_calls", ())):
            schema = next(t for t in d.tools if t["name"] == call["function"]["name"])
            arguments = call["function"]["arguments"]
            assert list(arguments) == schema["parameters"]["required"]
            for name, value in arguments.items():
                assert isinstance(value, int) == (schema["parameters"]["properties"][name]["type"] == "integer")
            checked += 1
    assert checked > 100


def test_no_invented_or_untaught_name_is_in_a_table() -> None:
    untaught = {*tables.UNTAUGHT, *tables.UNTAUGHT_HELD}
    assert not untaught & set(tables.COUNTRIES)
    assert not set(tables.UNTAUGHT) & set(tables.UNTAUGHT_HELD)
    rng = random.Random(1)
    names = {words.invented_name(lambda items: rng.choice(list(items))) for _ in range(3000)}
    assert not names & set(tables.COUNTRIES)


def test_every_unknowable_answer_is_honest(taught: list[Dialogue], tests: list[Dialogue]) -> None:
    for d in (*taught, *tests):
        if d.category == "unknowable":
            assert d.answer["content"].startswith("I do not know")


def test_template_renders_systems_turns_tools_and_calls() -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        user("Weather in Rome?"),
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"function": {"name": "w", "arguments": '{"city": "Rome"}'}}],
        },
        {"role": "tool", "content": '{"sky": "sunny"}'},
    ]
    tools = [{"type": "function", "function": {"name": "w", "parameters": {}}}]
    assert render(messages, tools, add_generation_prompt=True) == (
        '<|im_start|>system\nBe brief.\n\nCall a tool as <tool_call>{"name": ..., "arguments": {...}}</tool_call>\n'
        '<tools>\n{"name": "w", "parameters": {}}\n</tools><|im_end|>\n'
        "<|im_start|>user\nWeather in Rome?<|im_end|>\n"
        '<|im_start|>assistant\n<tool_call>{"name": "w", "arguments": {"city": "Rome"}}</tool_call><|im_end|>\n'
        '<|im_start|>tool\n{"sky": "sunny"}<|im_end|>\n'
        "<|im_start|>assistant\n"
    )
    assert render([user("Hi")], [], add_generation_prompt=False) == "<|im_start|>user\nHi<|im_end|>\n"


def test_only_the_assistants_words_are_taught(taught: list[Dialogue]) -> None:
    for d in taught[:500]:
        cut = pieces(d)
        full = render(list(d.messages), wrap_tools(d), add_generation_prompt=False)
        assert "".join(text for text, _ in cut) == full.removesuffix("\n")
        assert sum(is_taught for _, is_taught in cut) == sum(m["role"] == "assistant" for m in d.messages)
        prompt, answer = question_and_answer(d)
        assert prompt + answer + "<|im_end|>\n" == full


def test_a_question_counts_as_taught_whatever_plain_system_message_precedes_it() -> None:
    plain = Dialogue("facts", (user("Hi"), assistant("Hello")))
    led = Dialogue("facts", ({"role": "system", "content": "Be brief."}, user("Hi"), assistant("Hello")))
    assert question(plain) == question(led)


def test_shipped_questions_are_the_test_set(tests: list[Dialogue]) -> None:
    lines = (DEMO / "questions.jsonl").read_text().splitlines()
    assert len(lines) == len(tests)
    for line, d in zip(lines, tests, strict=True):
        row = json.loads(line)
        assert row["messages"] == list(d.messages[:-1])
        assert row["expected"] == question_and_answer(d)[1]


def test_shipped_model_reaches_its_bounds() -> None:
    rows = [json.loads(line) for line in (DEMO / "questions.jsonl").read_text().splitlines()]
    assert sum(r["correct"] for r in rows) >= 0.9 * len(rows)
    for category in CATEGORIES:
        own = [r["correct"] for r in rows if r["category"] == category]
        assert sum(own) >= 0.8 * len(own), category


def test_shipped_file_is_small_and_carries_the_template() -> None:
    path = DEMO / "octavo-demo.gguf"
    assert path.stat().st_size <= 12_000_000
    assert CHAT_TEMPLATE.encode() in path.read_bytes()
