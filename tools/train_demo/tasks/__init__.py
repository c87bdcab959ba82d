"""The tasks of the demo model by category, with their weights."""

from __future__ import annotations

from tools.train_demo.dialogue import Task
from tools.train_demo.tasks import (
    about,
    arithmetic,
    chat,
    extraction,
    facts,
    follow_ups,
    rewriting,
    spelling,
    tool_calls,
    unknowable,
)

# tasks with their weights inside the category
CATEGORIES: dict[str, tuple[tuple[Task, float], ...]] = {
    "facts": facts.TASKS,
    "arithmetic": arithmetic.TASKS,
    "counting and spelling": spelling.TASKS,
    "rewriting": rewriting.TASKS,
    "extraction": extraction.TASKS,
    "tool calls": tool_calls.TASKS,
    "follow-ups": follow_ups.TASKS,
    "about Octavo": about.TASKS,
    "unknowable": unknowable.TASKS,
    "small talk": chat.TASKS,
}

# practice that only training uses: several small questions in one, many taught tokens for few read
DRILLS: dict[str, tuple[tuple[Task, float], ...]] = {
    "arithmetic": arithmetic.DRILLS,
    "counting and spelling": spelling.DRILLS,
    "rewriting": rewriting.DRILLS,
}
