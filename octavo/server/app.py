"""The ASGI app: routes of every dialect, health, metrics, the chat page, keys, and errors in their dialect's shape."""

from __future__ import annotations

import contextlib
import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from octavo.base.errors import AuthenticationError, EngineDeadError, InvalidRequestError, NotFoundError, OctavoError
from octavo.base.types import AsyncEngine
from octavo.server import sagemaker, tokenizing
from octavo.server.anthropic import messages as anthropic
from octavo.server.context import ServerContext
from octavo.server.dialect import Dialect, dialect_of
from octavo.server.http import SERVER_FAILED, Disconnected, json_response
from octavo.server.llama_cpp import routes as llama_cpp
from octavo.server.metrics import Metrics
from octavo.server.ollama import routes as ollama
from octavo.server.openai import routes as openai
from octavo.server.settings import ServerSettings
from octavo.server.streams import CompletionFailedError
from octavo.server.tgi import routes as tgi

log = logging.getLogger("octavo.server")

CLIENT_CLOSED_REQUEST = 499  # nginx's status for "nobody is there to read this"
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_WEB = Path(__file__).parent / "web"
_PAGE_FILES = {
    "": ("index.html", "text/html; charset=utf-8"),
    "app.js": ("app.js", "text/javascript; charset=utf-8"),
    "markdown.js": ("markdown.js", "text/javascript; charset=utf-8"),
    "style.css": ("style.css", "text/css; charset=utf-8"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}
_DIALECTS: tuple[Dialect, ...] = (
    openai.dialect(),
    anthropic.dialect(),
    ollama.dialect(),
    tgi.dialect(),
    llama_cpp.dialect(),
)
# What may be read without an API key, besides what the dialects say of themselves.
_OPEN_PATHS = frozenset({"/health", "/metrics", "/version", *(f"/{name}" for name in _PAGE_FILES)})


def create_app(engine: AsyncEngine, settings: ServerSettings | None = None) -> Starlette:
    """The app around an engine. Closing the app (lifespan) closes the engine."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await engine.close()

    settings = settings or ServerSettings()
    app = Starlette(
        routes=[
            *(route for dialect in _DIALECTS for route in dialect.routes),
            Route("/invocations", sagemaker.invocations, methods=["POST"]),
            Route("/tokenize", tokenizing.tokenize, methods=["POST"]),
            Route("/detokenize", tokenizing.detokenize, methods=["POST"]),
            Route("/health", health, methods=["GET"]),
            Route("/metrics", metrics, methods=["GET"]),
            Route("/version", version, methods=["GET"]),
            *(Route(f"/{name}", _page(*entry), methods=["GET"]) for name, entry in _PAGE_FILES.items()),
        ],
        lifespan=lifespan,
        exception_handlers={
            OctavoError: _octavo_error,
            Disconnected: _disconnected,
            HTTPException: _http_error,
            Exception: _unexpected,
        },
    )
    app.router.redirect_slashes = False  # a redirect would lose the body of a POST with many clients
    app.state.context = ServerContext(engine, settings, Metrics((settings.served_names or (engine.info.name,))[0]))
    if settings.api_keys:
        app.add_middleware(RequireKey, keys=settings.api_keys)
    if settings.cors_origins:  # outermost: a page may read refusals, too
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            max_age=600,
        )
    return app


async def health(request: Request) -> Response:
    """200 while the engine lives, 503 once it does not."""
    if not ServerContext.of(request).engine.alive:
        return _refusal(request, EngineDeadError("The engine process has ended."))
    return json_response({"status": "ok"})


async def version(_: Request) -> Response:
    from octavo import __version__

    return json_response({"version": __version__})


async def metrics(request: Request) -> Response:
    context = ServerContext.of(request)
    stats = None
    if context.engine.alive:
        with contextlib.suppress(EngineDeadError):
            stats = await context.engine.stats()
    return Response(context.metrics.exposition(stats), media_type="text/plain; version=0.0.4; charset=utf-8")


def _page(name: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    content = (_WEB / name).read_bytes()

    async def serve(_: Request) -> Response:
        return Response(content, media_type=media_type, headers=_PAGE_HEADERS)

    return serve


# ---------------------------------------------------------------- errors


def _refusal(request: Request, error: OctavoError) -> Response:
    """The answer to an error, in the shape that the clients of this path know."""
    return dialect_of(request.method, request.url.path, _DIALECTS).refuse(error)


async def _octavo_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, OctavoError)
    if isinstance(error, CompletionFailedError) and not ServerContext.of(request).engine.alive:
        error = EngineDeadError(str(error))  # try another server
    if error.status >= 500:
        log.error("%s: %s", type(error).__name__, error)
    return _refusal(request, error)


async def _disconnected(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _refusal(request, NotFoundError(f"No route {request.method} {request.url.path} on this server."))
    refused = InvalidRequestError(f"{error.detail}: {request.method} {request.url.path}.")
    refused.status = error.status_code
    response = _refusal(request, refused)
    response.headers.update(error.headers or {})
    return response


async def _unexpected(request: Request, _: Exception) -> Response:
    # no log line here: Starlette raises the exception again, and uvicorn logs it with its traceback
    return _refusal(request, OctavoError(SERVER_FAILED))


class RequireKey:
    """ASGI middleware: one of the keys is needed, as `Authorization: Bearer KEY` or `x-api-key: KEY`, except to read
    the page, health and what the dialects show to everybody. Compares in constant time."""

    def __init__(self, app: Callable[..., Awaitable[None]], keys: tuple[str, ...]) -> None:
        self._app = app
        self._keys = [key.encode() for key in keys]
        self._open = _OPEN_PATHS.union(*(dialect.open_paths for dialect in _DIALECTS))

    async def __call__(self, scope: dict[str, object], receive: object, send: object) -> None:
        if scope["type"] == "http" and not self._is_open(str(scope["method"]), str(scope["path"])):
            given = _given_key(dict(scope["headers"]))  # type: ignore[call-overload]
            known = [hmac.compare_digest(given, key) for key in self._keys]
            if not any(known):
                refusal = AuthenticationError("A valid API key is needed: send 'Authorization: Bearer KEY'.")
                dialect = dialect_of(str(scope["method"]), str(scope["path"]), _DIALECTS)
                await dialect.refuse(refusal)(scope, receive, send)  # type: ignore[arg-type]
                return
        await self._app(scope, receive, send)

    def _is_open(self, method: str, path: str) -> bool:
        return method == "OPTIONS" or (method in ("GET", "HEAD") and path in self._open)


def _given_key(headers: Mapping[bytes, bytes]) -> bytes:
    scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
    return given.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")
