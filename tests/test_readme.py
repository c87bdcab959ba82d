"""What the README says is made from the code, and its commands exist."""

from __future__ import annotations

import re

from octavo.cli import COMMANDS
from tools.models_table import README, updated


def test_the_table_of_families_is_current() -> None:
    assert updated(README.read_text()) == README.read_text(), "run: python -m tools.models_table --write"


def test_every_command_is_told() -> None:
    assert set(re.findall(r"^octavo (\w+)", README.read_text(), re.MULTILINE)) == set(COMMANDS)
