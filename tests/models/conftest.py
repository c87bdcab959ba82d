"""A backend for each test of a model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from octavo.backends.ops import Backend
from tests.models.harness import BACKENDS, backend_named


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    with backend_named(request.param) as made:
        yield made
