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
    "facts": (0.17, facts.TASKS),
    "arithmetic": (0.17, arithmetic.TASKS),
    "counting and spelling": (0.15, spelling.TASKS),
    "rewriting": (0.10, rewriting.TASKS),
    "extraction": (0.09, extraction.TASKS),
    "tool calls": (0.05, tool_calls.TASKS),
    "follow-ups": (0.08, follow_ups.TASKS),
    "about Octavo": (0.045, about.TASKS),
    "unknowable": (0.11, unknowable.TASKS),
    "small talk": (0.03, chat.TASKS),
}

# practice that only training uses: several small questions in one, many taught tokens for few read
DRILLS: dict[str, tuple[tuple[Task, float], ...]] = {
    "arithmetic": arithmetic.DRILLS,
    "counting and spelling": spelling.DRILLS,
}
