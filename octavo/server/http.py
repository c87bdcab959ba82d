"""What every dialect needs of HTTP: bodies in, errors and event streams out, disconnects noticed.

Knows no dialect: error bodies are made by the `ErrorShape` that a dialect passes.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Send

from octavo.base.errors import InvalidRequestError, OctavoError
from octavo.server.streams import close

log = logging.getLogger("octavo.server")

Body = TypeVar("Body", bound=BaseModel)
T = TypeVar("T")
ErrorShape = Callable[[OctavoError], dict[str, Any]]
_LONG_TEXT = 16384  # characters: a few milliseconds of tokenizing
_MARK = uuid.uuid4().hex  # of this process: nobody can send it
SERVER_FAILED = "The server failed on this request; its log has the details."


class BodyTooLargeError(InvalidRequestError):
    """The request body is larger than the server takes."""

    status = 413


class UnknownFieldError(InvalidRequestError):
    """A field that the dialect does not have."""


class MissingFieldError(InvalidRequestError):
    """A field that the dialect cannot do without."""


class Disconnected(Exception):
    """The client closed the connection before its answer was ready."""


async def read_json(request: Request, max_bytes: int) -> dict[str, Any]:
    """The body as a JSON object.

    Raises:
        InvalidRequestError: no JSON, not an object, or too large.
        Disconnected: the client left before its body was here.
    """
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > max_bytes:
                raise BodyTooLargeError(f"The body is larger than the {max_bytes} bytes this server takes.")
            chunks.append(chunk)
    except ClientDisconnect as e:
        raise Disconnected from e
    try:
        body = orjson.loads(b"".join(chunks))
    except orjson.JSONDecodeError as e:
        raise InvalidRequestError(f"The body is not valid JSON: {e}. Send an application/json object.") from e
    if not isinstance(body, dict):
        raise InvalidRequestError(f"The body must be a JSON object, got a {type(body).__name__}.")
    return body


def validated(model: type[Body], body: dict[str, Any]) -> Body:
    """The body as a dialect's type; the first fault is reported with the path of its field.

    Raises:
        InvalidRequestError: a missing, unknown or ill-typed field.
    """
    try:
        return model.model_validate(body)
    except ValidationError as e:
        fault = e.errors(include_url=False, include_context=False)[0]
        kind = fault["type"]
        path = _path(body, fault["loc"], complete=kind in ("extra_forbidden", "missing"))
        if kind == "extra_forbidden":
            raise UnknownFieldError(f"Unrecognized request argument supplied: {path}.", param=path) from e
        if kind == "missing":
            raise MissingFieldError(f"Missing required parameter: {path}.", param=path) from e
        raise InvalidRequestError(f"{path}: {fault['msg']}.", param=path) from e


def _path(body: object, location: tuple[int | str, ...], *, complete: bool) -> str:
    """`messages[0].role` from pydantic's location, without the names it gives to the members of a union.

    `complete` says that the last part names a field that is not in the body.
    """
    path = ""
    here = body
    for at, part in enumerate(location):
        if isinstance(part, int) and isinstance(here, list) and part < len(here):
            path, here = f"{path}[{part}]", here[part]
        elif isinstance(here, dict) and part in here:
            path, here = f"{path}.{part}", here[part]
        elif complete and at == len(location) - 1:
            path = f"{path}.{part}"
    return path.removeprefix(".")


def json_response(content: object, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status_code=status, media_type="application/json")


def error_response(error: OctavoError, shape: ErrorShape) -> Response:
    response = json_response(shape(error), error.status)
    if error.status == 503:
        response.headers["Retry-After"] = "1"
    if error.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


async def aside(num_characters: int, work: Callable[[], T]) -> T:
    """The result of `work`, which walks through so much text: in a thread if that is long, so that streams go on."""
    if num_characters < _LONG_TEXT:
        return work()
    return await asyncio.to_thread(work)


async def until_disconnect(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, which is cancelled when the client goes away first.

    Raises:
        Disconnected: the client has closed the connection.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Disconnected
    finally:
        for pending in (task, watch):
            if not pending.done():
                pending.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def event(data: object) -> bytes:
    """One server-sent event."""
    return b"data: " + orjson.dumps(data) + b"\n\n"


def event_stream(
    chunks: AsyncIterator[bytes],
    shape: ErrorShape,
    *,
    last: bytes = b"",
    encode: Callable[[dict[str, Any]], bytes] = event,
    media_type: str = "text/event-stream",
) -> Response:
    """Server-sent events from encoded chunks, and `last` after them; closing the connection closes the iterator.

    An exception out of `chunks` becomes one in the dialect's error shape, made by `encode`: the status line has been
    sent by then.
    """
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return _EventStream(_ended(chunks, shape, last, encode), media_type=media_type, headers=headers)


class _EventStream(StreamingResponse):
    """Closes its iterator when it ends, in whatever way: an abandoned one would run on until it is collected."""

    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(send)
        finally:
            await close(self.body_iterator)


async def _ended(
    chunks: AsyncIterator[bytes], shape: ErrorShape, last: bytes, encode: Callable[[dict[str, Any]], bytes]
) -> AsyncIterator[bytes]:
    try:
        async for chunk in chunks:
            yield chunk
    except OctavoError as e:
        log.error("a stream ended: %s", e)
        yield encode(shape(e))
    except Exception:
        log.exception("unexpected error in a stream")
        yield encode(shape(OctavoError(SERVER_FAILED)))
    finally:
        await close(chunks)
    if last:
        yield last


class EventTemplate:
    """Events that differ in one string: all but that is encoded once.

    Args:
        make: the event's data around a string.
    """

    def __init__(self, make: Callable[[str], object]) -> None:
        self._before, self._after = event(make(_MARK)).split(orjson.dumps(_MARK))

    def event(self, text: str) -> bytes:
        return self._before + orjson.dumps(text) + self._after
