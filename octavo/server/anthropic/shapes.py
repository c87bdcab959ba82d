"""Answer bodies of the Messages API: messages, blocks, events, errors. Plain dicts, encoded once by orjson."""

from __future__ import annotations

import uuid
from typing import Any

import orjson
from starlette.responses import Response

from octavo.base.errors import (
    AuthenticationError,
    InvalidRequestError,
    NotFoundError,
    OctavoError,
    OverloadedError,
)
from octavo.base.types import Delta, FinishReason
from octavo.server.http import json_response

_TYPES: tuple[tuple[type[OctavoError], str, int], ...] = (
    (InvalidRequestError, "invalid_request_error", 400),
    (AuthenticationError, "authentication_error", 401),
    (NotFoundError, "not_found_error", 404),
    (OverloadedError, "overloaded_error", 529),
    (OctavoError, "api_error", 500),
)


def error_body(error: OctavoError) -> dict[str, Any]:
    kind = next(kind for known, kind, _ in _TYPES if isinstance(error, known))
    return {"type": "error", "error": {"type": kind, "message": str(error)}}


def refuse(error: OctavoError) -> Response:
    status = next(status for known, _, status in _TYPES if isinstance(error, known))
    if error.status in (405, 413, 503):
        status = error.status
    return json_response(error_body(error), status)


def named_event(data: dict[str, Any]) -> bytes:
    """A server-sent event whose name is the data's type."""
    return b"event: " + str(data["type"]).encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"


def new_message(model: str) -> dict[str, Any]:
    return {
        "id": f"msg_{uuid.uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def new_call_id() -> str:
    return f"toolu_{uuid.uuid4().hex[:24]}"


def usage_body(delta: Delta, num_output: int) -> dict[str, int]:
    """Cached tokens are counted apart from the others of the prompt."""
    return {
        "input_tokens": delta.num_prompt_tokens - delta.num_cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": delta.num_cached_tokens,
        "output_tokens": num_output,
    }


def stop_facts(reason: FinishReason | None, stop_reason: int | str | None, num_calls: int) -> dict[str, str | None]:
    if isinstance(stop_reason, str):
        return {"stop_reason": "stop_sequence", "stop_sequence": stop_reason}
    if reason == "length":
        return {"stop_reason": "max_tokens", "stop_sequence": None}
    return {"stop_reason": "tool_use" if num_calls else "end_turn", "stop_sequence": None}
