"""Answer bodies of TGI's native API: tokens, details, errors. Plain dicts, encoded once by orjson."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from octavo.base.errors import AuthenticationError, InvalidRequestError, NotFoundError, OctavoError, OverloadedError
from octavo.base.types import AsyncEngine, Delta, FinishReason, TokenLogprobs
from octavo.server.http import json_response
from octavo.server.streams import Completion, token_shown

# Kinds and statuses that TGI's clients choose their exceptions by.
_KINDS: tuple[tuple[type[OctavoError], str, int], ...] = (
    (InvalidRequestError, "validation", 422),
    (NotFoundError, "not_found", 404),
    (OverloadedError, "overloaded", 429),
    (OctavoError, "generation", 424),
)


def error_body(error: OctavoError) -> dict[str, Any]:
    kind = next(kind for known, kind, _ in _KINDS if isinstance(error, known))
    return {"error": str(error), "error_type": kind}


def refuse(error: OctavoError) -> Response:
    """TGI's answer to an error. A key that is missing or wrong gets a bare 401, as there."""
    if isinstance(error, AuthenticationError):
        return Response(status_code=401, headers={"WWW-Authenticate": "Bearer"})
    status = next(status for known, _, status in _KINDS if isinstance(error, known))
    if error.status in (413, 503):  # HTTP's own, and "try another server"
        status = error.status
    return json_response(error_body(error), status)


def finish_reason(reason: FinishReason | None, stop_reason: int | str | None) -> str:
    if reason == "length":
        return "length"
    return "stop_sequence" if isinstance(stop_reason, str) else "eos_token"


def token_body(engine: AsyncEngine, token_id: int, text: str, logprob: float | None) -> dict[str, Any]:
    return {"id": token_id, "text": text, "logprob": logprob, "special": token_id in engine.special_token_ids}


def top_tokens(engine: AsyncEngine, entry: TokenLogprobs) -> list[dict[str, Any]]:
    return [
        token_body(engine, token_id, token_shown(engine, token_id)[0], logprob)
        for token_id, logprob in zip(entry.top_ids, entry.top_logprobs, strict=True)
    ]


class TokenTexts:
    """The text that each token of an answer adds, such that the texts of ordinary tokens join to the answer's.

    A character of several tokens is the last one's. Special tokens are not part of the answer, but show their names.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def of(self, delta: Delta) -> list[str]:
        """One text per token of the Delta; whatever the tokens' bytes do not explain goes to the last ordinary one."""
        texts, rest, last = [], delta.text, None
        for at, token_id in enumerate(delta.token_ids):
            if token_id in self._engine.special_token_ids:
                texts.append(token_shown(self._engine, token_id)[0])
                continue
            piece = self._decoder.decode(self._engine.token_bytes(token_id))
            piece = piece if rest.startswith(piece) else ""
            rest, last = rest[len(piece) :], at
            texts.append(piece)
        if last is not None:
            texts[last] += rest
        return texts


def tokens_of(engine: AsyncEngine, entries: Sequence[TokenLogprobs]) -> list[dict[str, Any]]:
    return [token_body(engine, e.token_id, token_shown(engine, e.token_id)[0], e.logprob) for e in entries]


def prefill_of(engine: AsyncEngine, prompt: Sequence[int], entries: Sequence[TokenLogprobs]) -> list[dict[str, Any]]:
    """The prompt's tokens; the first has no log-probability."""
    logprobs = [None, *(entry.logprob for entry in entries)]
    return [
        {"id": token_id, "text": token_shown(engine, token_id)[0], "logprob": logprob}
        for token_id, logprob in zip(prompt, logprobs, strict=True)
    ]


def sequence_details(
    engine: AsyncEngine, done: Completion, prefill: list[dict[str, Any]], seed: int | None, top_n: int
) -> dict[str, Any]:
    """What is told of one finished sequence."""
    details: dict[str, Any] = {
        "finish_reason": finish_reason(done.finish_reason, done.stop_reason),
        "generated_tokens": len(done.token_ids),
        "seed": seed,
        "prefill": prefill,
        "tokens": tokens_of(engine, done.logprobs),
    }
    if top_n:
        details["top_tokens"] = [top_tokens(engine, entry) for entry in done.logprobs]
    return details
