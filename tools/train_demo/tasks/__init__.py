"""The tasks of the demo model by category, with their weights in the training mixture."""

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

# category: (share of the training mixture, tasks with their weights inside the category)
CATEGORIES: dict[str, tuple[float, tuple[tuple[Task, float], ...]]] = {
    "facts": (0.10, facts.TASKS),
    "arithmetic": (0.155, arithmetic.TASKS),
    "counting and spelling": (0.18, spelling.TASKS),
    "rewriting": (0.21, rewriting.TASKS),
    "extraction": (0.11, extraction.TASKS),
    "tool calls": (0.05, tool_calls.TASKS),
    "follow-ups": (0.06, follow_ups.TASKS),
    "about Octavo": (0.03, about.TASKS),
    "unknowable": (0.07, unknowable.TASKS),
    "small talk": (0.035, chat.TASKS),
}

# practice that only training uses: several small questions in one, many taught tokens for few read
DRILLS: dict[str, tuple[tuple[Task, float], ...]] = {
    "arithmetic": arithmetic.DRILLS,
    "counting and spelling": spelling.DRILLS,
    "rewriting": rewriting.DRILLS,
}
