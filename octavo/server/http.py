"""What every dialect needs of HTTP: bodies in, errors and event streams out, disconnects noticed.

Knows no dialect: error bodies are made by the `ErrorShape` that a dialect passes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from octavo.base.errors import InvalidRequestError, OctavoError

Body = TypeVar("Body", bound=BaseModel)
T = TypeVar("T")
ErrorShape = Callable[[OctavoError], dict[str, Any]]


class BodyTooLargeError(InvalidRequestError):
    """The request body is larger than the server takes."""

    status = 413


class Disconnected(Exception):
    """The client closed the connection before its answer was ready."""


async def read_json(request: Request, max_bytes: int) -> dict[str, Any]:
    """The body as a JSON object.

    Raises:
        InvalidRequestError: no JSON, not an object, or too large.
    """
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise BodyTooLargeError(f"The body is larger than the {max_bytes} bytes this server takes.")
        chunks.append(chunk)
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
        path = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            message = f"Unrecognized request argument supplied: {path}."
        elif fault["type"] == "missing":
            message = f"Missing required parameter: {path}."
        else:
            message = f"{path}: {fault['msg']}."
        raise InvalidRequestError(message, param=path) from e


def json_response(content: object, status: int = 200) -> Response:
    return Response(orjson.dumps(content), status_code=status, media_type="application/json")


def error_response(error: OctavoError, shape: ErrorShape) -> Response:
    response = json_response(shape(error), error.status)
    if error.status == 503:
        response.headers["Retry-After"] = "1"
    return response


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


def event_stream(chunks: AsyncIterator[bytes]) -> Response:
    """Server-sent events from encoded chunks; closing the connection closes the iterator."""
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(_closing(chunks), media_type="text/event-stream", headers=headers)


async def _closing(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        async for chunk in chunks:
            yield chunk
    finally:
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()


def event(data: object) -> bytes:
    """One server-sent event."""
    return b"data: " + orjson.dumps(data) + b"\n\n"
