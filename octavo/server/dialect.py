"""What a dialect is to the server: its routes, the shape of its errors, and what it shows without a key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starlette.responses import Response
from starlette.routing import Route

from octavo.base.errors import OctavoError


@dataclass(frozen=True)
class Dialect:
    """One API over the engine. `refuse` makes the answer to an error that no stream carries yet; `open_paths` may be
    read (GET) without an API key; `prefixes` are paths whose unknown names this dialect answers for."""

    name: str
    routes: tuple[Route, ...]
    refuse: Callable[[OctavoError], Response]
    open_paths: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()

    def owns(self, method: str, path: str) -> bool:
        """Whether a request is this dialect's, be it answered or refused."""
        if path.startswith(self.prefixes):
            return True
        return any(route.path == path and method in (route.methods or ()) for route in self.routes)


def dialect_of(method: str, path: str, dialects: Sequence[Dialect]) -> Dialect:
    """The dialect that speaks at a path; the first one answers for paths that nobody owns."""
    return next((dialect for dialect in dialects if dialect.owns(method, path)), dialects[0])
