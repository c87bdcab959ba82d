"""A backend for each test of the ops."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from octavo.backends.ops import Backend
from tests.models.harness import BACKENDS, backend_named


@pytest.fixture(params=[name for name in BACKENDS if name != "reference"])
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """A backend that is to agree with the reference."""
    with backend_named(request.param) as made:
        yield made
