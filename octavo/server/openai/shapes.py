"""Answer bodies of the OpenAI dialect: errors, usage, log-probabilities, ids. Plain dicts, encoded once by orjson."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any

from octavo.base.errors import AuthenticationError, InvalidRequestError, NotFoundError, OctavoError, PromptTooLongError
from octavo.base.types import AsyncEngine, TokenLogprobs
from octavo.server.http import MissingFieldError, UnknownFieldError
from octavo.server.streams import Usage, token_shown

DONE = b"data: [DONE]\n\n"
_CODES: dict[type[OctavoError], str] = {  # what OpenAI's clients look for
    PromptTooLongError: "context_length_exceeded",
    AuthenticationError: "invalid_api_key",
    UnknownFieldError: "unknown_parameter",
    MissingFieldError: "missing_required_parameter",
    NotFoundError: "not_found",
}


def error_body(error: OctavoError) -> dict[str, Any]:
    """OpenAI's error object."""
    param = error.param if isinstance(error, InvalidRequestError) else None
    code = next((code for kind, code in _CODES.items() if isinstance(error, kind)), None)
    return {"error": {"message": str(error), "type": error.kind, "param": param, "code": code}}


def new_id(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex}"


def now() -> int:
    return int(time.time())


def usage_body(usage: Usage) -> dict[str, Any]:
    prompt, completion = usage.prompt_tokens, usage.completion_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def chat_logprobs(engine: AsyncEngine, entries: Sequence[TokenLogprobs]) -> dict[str, Any]:
    """choices[].logprobs of a chat completion."""
    content = []
    for entry in entries:
        text, raw = token_shown(engine, entry.token_id)
        top = []
        for token_id, value in zip(entry.top_ids, entry.top_logprobs, strict=True):
            top_text, top_raw = token_shown(engine, token_id)
            top.append({"token": top_text, "logprob": value, "bytes": list(top_raw)})
        content.append({"token": text, "logprob": entry.logprob, "bytes": list(raw), "top_logprobs": top})
    return {"content": content, "refusal": None}


def completion_logprobs(
    engine: AsyncEngine, entries: Sequence[TokenLogprobs | None], token_ids: Sequence[int], offset: int = 0
) -> dict[str, Any]:
    """choices[].logprobs of a completion; an entry of None (a prompt's first token) has no value."""
    tokens: list[str] = []
    values: list[float | None] = []
    tops: list[dict[str, float] | None] = []
    offsets: list[int] = []
    for entry, token_id in zip(entries, token_ids, strict=True):
        text, _ = token_shown(engine, token_id)
        tokens.append(text)
        offsets.append(offset)
        offset += len(text)
        if entry is None:
            values.append(None)
            tops.append(None)
            continue
        values.append(entry.logprob)
        top = {token_shown(engine, i)[0]: v for i, v in zip(entry.top_ids, entry.top_logprobs, strict=True)}
        top.setdefault(text, entry.logprob)
        tops.append(top)
    return {"text_offset": offsets, "token_logprobs": values, "tokens": tokens, "top_logprobs": tops}


def prompt_logprobs_body(engine: AsyncEngine, entries: Sequence[TokenLogprobs]) -> list[dict[str, Any] | None]:
    """vLLM's prompt_logprobs: one map of token id to log-probability, rank and text per prompt token."""
    body: list[dict[str, Any] | None] = [None]
    for entry in entries:
        ranked = {
            str(i): {"logprob": v, "rank": rank, "decoded_token": token_shown(engine, i)[0]}
            for rank, (i, v) in enumerate(zip(entry.top_ids, entry.top_logprobs, strict=True), 1)
        }
        ranked.setdefault(
            str(entry.token_id),
            {"logprob": entry.logprob, "rank": entry.rank, "decoded_token": token_shown(engine, entry.token_id)[0]},
        )
        body.append(ranked)
    return body
