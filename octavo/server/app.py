"""The ASGI app: routes of every dialect, health, metrics, the chat page, keys, and errors in their dialect's shape."""

from __future__ import annotations

import contextlib
import hmac
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.resources import files

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from octavo.base.errors import AuthenticationError, EngineDeadError, InvalidRequestError, NotFoundError, OctavoError
from octavo.base.types import AsyncEngine
from octavo.server.context import ServerContext
from octavo.server.http import SERVER_FAILED, Disconnected, error_response, json_response
from octavo.server.metrics import Metrics
from octavo.server.openai import routes as openai
from octavo.server.openai.shapes import error_body
from octavo.server.settings import ServerSettings
from octavo.server.streams import CompletionFailedError

log = logging.getLogger("octavo.server")

CLIENT_CLOSED_REQUEST = 499  # nginx's status for "nobody is there to read this"
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_PAGE_FILES = {
    "": ("index.html", "text/html; charset=utf-8"),
    "app.js": ("app.js", "text/javascript; charset=utf-8"),
    "markdown.js": ("markdown.js", "text/javascript; charset=utf-8"),
    "style.css": ("style.css", "text/css; charset=utf-8"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}


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
            *openai.routes(),
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
        return error_response(EngineDeadError("The engine process has ended."), error_body)
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
    content = files("octavo.server").joinpath("web", name).read_bytes()

    async def serve(_: Request) -> Response:
        return Response(content, media_type=media_type, headers=_PAGE_HEADERS)

    return serve


# ---------------------------------------------------------------- errors


async def _octavo_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, OctavoError)
    if isinstance(error, CompletionFailedError) and not ServerContext.of(request).engine.alive:
        error = EngineDeadError(str(error))  # try another server
    if error.status >= 500:
        log.error("%s: %s", type(error).__name__, error)
    return error_response(error, error_body)


async def _disconnected(_: Request, __: Exception) -> Response:
    return Response(status_code=CLIENT_CLOSED_REQUEST)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return error_response(
            NotFoundError(f"No route {request.method} {request.url.path} on this server."), error_body
        )
    refused = InvalidRequestError(f"{error.detail}: {request.method} {request.url.path}.")
    refused.status = error.status_code
    response = error_response(refused, error_body)
    response.headers.update(error.headers or {})
    return response


async def _unexpected(_: Request, __: Exception) -> Response:
    # no log line here: Starlette raises the exception again, and uvicorn logs it with its traceback
    return error_response(OctavoError(SERVER_FAILED), error_body)


class RequireKey:
    """ASGI middleware: /v1/* needs one of the keys as `Authorization: Bearer KEY`. Compares in constant time."""

    def __init__(self, app: Callable[..., Awaitable[None]], keys: tuple[str, ...]) -> None:
        self._app = app
        self._keys = [key.encode() for key in keys]

    async def __call__(self, scope: dict[str, object], receive: object, send: object) -> None:
        if scope["type"] == "http" and str(scope["path"]).startswith("/v1/") and scope["method"] != "OPTIONS":
            headers = dict(scope["headers"])  # type: ignore[call-overload]
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            known = [hmac.compare_digest(given.strip(), key) for key in self._keys]
            if scheme.lower() != b"bearer" or not any(known):
                refusal = AuthenticationError("A valid API key is needed: send 'Authorization: Bearer KEY'.")
                await error_response(refusal, error_body)(scope, receive, send)  # type: ignore[arg-type]
                return
        await self._app(scope, receive, send)
