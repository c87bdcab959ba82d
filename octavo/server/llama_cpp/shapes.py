"""Answer bodies of llama.cpp's native API: results, probabilities, timings, errors."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response

from octavo.base.errors import (
    AuthenticationError,
    InvalidRequestError,
    NotFoundError,
    OctavoError,
    OverloadedError,
    PromptTooLongError,
    UnsupportedError,
)
from octavo.base.types import AsyncEngine, Delta, FinishReason, TokenLogprobs
from octavo.server.http import json_response
from octavo.server.streams import token_shown

_TYPES: tuple[tuple[type[OctavoError], str, int], ...] = (
    (PromptTooLongError, "exceed_context_size_error", 400),
    (UnsupportedError, "not_supported_error", 501),
    (InvalidRequestError, "invalid_request_error", 400),
    (AuthenticationError, "authentication_error", 401),
    (NotFoundError, "not_found_error", 404),
    (OverloadedError, "unavailable_error", 503),
    (OctavoError, "server_error", 500),
)


def error_body(error: OctavoError) -> dict[str, Any]:
    kind, status = next((kind, status) for known, kind, status in _TYPES if isinstance(error, known))
    body: dict[str, Any] = {"code": status, "message": str(error), "type": kind}
    if isinstance(error, PromptTooLongError):
        body |= {"n_prompt_tokens": error.num_tokens, "n_ctx": error.limit}
    return {"error": body}


def refuse(error: OctavoError) -> Response:
    body = error_body(error)
    status = error.status if error.status in (405, 413, 503) else body["error"]["code"]
    return json_response(body, status)


@dataclass
class Clock:
    """When an answer began and when its first token came."""

    began: float = field(default_factory=time.perf_counter)
    first: float | None = None

    def saw(self, delta: Delta) -> None:
        if self.first is None and delta.token_ids:
            self.first = time.perf_counter()

    def timings(self, last: Delta) -> dict[str, float | int]:
        now = time.perf_counter()
        first = now if self.first is None else self.first
        computed, prompt_ms = last.num_prompt_tokens - last.num_cached_tokens, 1000 * (first - self.began)
        predicted, predicted_ms = last.num_output_tokens, 1000 * (now - first)
        return {
            "cache_n": last.num_cached_tokens,
            **_speed("prompt", computed, prompt_ms),
            **_speed("predicted", predicted, predicted_ms),
        }


def _speed(name: str, count: int, ms: float) -> dict[str, float | int]:
    return {
        f"{name}_n": count,
        f"{name}_ms": ms,
        f"{name}_per_token_ms": ms / max(1, count),
        f"{name}_per_second": 1000 * count / ms if ms > 0 else 0.0,
    }


def stop_facts(reason: FinishReason | None, stop_reason: int | str | None) -> dict[str, str]:
    if isinstance(stop_reason, str):
        return {"stop_type": "word", "stopping_word": stop_reason}
    return {"stop_type": "limit" if reason == "length" else "eos", "stopping_word": ""}


def probabilities(
    engine: AsyncEngine, entries: list[TokenLogprobs] | tuple[TokenLogprobs, ...]
) -> list[dict[str, Any]]:
    return [
        _token(engine, entry.token_id, entry.logprob)
        | {
            "top_logprobs": [
                _token(engine, token_id, logprob)
                for token_id, logprob in zip(entry.top_ids, entry.top_logprobs, strict=True)
            ]
        }
        for entry in entries
    ]


def _token(engine: AsyncEngine, token_id: int, logprob: float) -> dict[str, Any]:
    text, raw = token_shown(engine, token_id)
    return {"id": token_id, "token": text, "bytes": list(raw), "logprob": logprob}


def piece(raw: bytes) -> str | list[int]:
    """A token as text, or its bytes where they are no text."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return list(raw)
