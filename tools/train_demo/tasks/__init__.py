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
    "facts": (0.14, facts.TASKS),
    "arithmetic": (0.16, arithmetic.TASKS),
    "counting and spelling": (0.19, spelling.TASKS),
    "rewriting": (0.19, rewriting.TASKS),
    "extraction": (0.09, extraction.TASKS),
    "tool calls": (0.06, tool_calls.TASKS),
    "follow-ups": (0.06, follow_ups.TASKS),
    "about Octavo": (0.03, about.TASKS),
    "unknowable": (0.06, unknowable.TASKS),
    "small talk": (0.02, chat.TASKS),
}

# practice that only training uses: several small questions in one, many taught tokens for few read
DRILLS: dict[str, tuple[tuple[Task, float], ...]] = {
    "arithmetic": arithmetic.DRILLS,
    "counting and spelling": spelling.DRILLS,
    "rewriting": rewriting.DRILLS,
}
