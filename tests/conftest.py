"""Fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED_DATA = Path(os.environ.get("OCTAVO_SHARED_DATA") or Path(__file__).parents[2] / "shared" / "data")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real test data that is never part of the repository (see docs)."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"NOT TESTED: the shared test data is absent ({SHARED_DATA}; set OCTAVO_SHARED_DATA)")
    return SHARED_DATA
