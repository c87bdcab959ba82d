"""POST /generate, /generate_stream and / (which chooses between the two by `stream`)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from octavo.base.errors import PromptTooLongError
from octavo.base.types import AsyncEngine, Delta
from octavo.server.context import ServerContext
from octavo.server.http import aside, event, event_stream, json_response, read_json, until_disconnect
from octavo.server.streams import Completion, Usage, begun, close, collected, failure, merged
from octavo.server.tgi import shapes
from octavo.server.tgi.protocol import Generation, generation, native_body


async def generate(request: Request) -> Response:
    """One answer, as an object."""
    return await _answer(request, await _body(request), stream=False)


async def generate_stream(request: Request) -> Response:
    """One event per token."""
    return await _answer(request, await _body(request), stream=True)


async def compat_generate(request: Request) -> Response:
    """POST /: a stream if the body says so; else a list with one answer."""
    return await answer_compat(request, await _body(request))


async def answer_compat(request: Request, body: Mapping[str, Any]) -> Response:
    """The same for a body that has been read."""
    return await _answer(request, body, stream=body.get("stream") is True, listed=True)


async def _body(request: Request) -> dict[str, Any]:
    return await read_json(request, ServerContext.of(request).settings.max_body_bytes)


async def _answer(request: Request, body: Mapping[str, Any], *, stream: bool, listed: bool = False) -> Response:
    began = time.perf_counter()
    context = ServerContext.of(request)
    engine = context.engine
    asked = generation(native_body(dict(body)), stream=stream)
    prompt = await aside(len(asked.inputs), lambda: _prompt(engine, asked))
    deltas = merged([context.observed(_deltas(engine, prompt, asked), asked.best_of)])
    validated = time.perf_counter()
    if stream:
        started = await until_disconnect(request, begun(deltas))
        response = event_stream(_events(engine, asked, started), shapes.error_body)
        response.headers["x-compute-characters"] = str(len(asked.inputs))
        return response
    done = await until_disconnect(request, collected(deltas, Usage()))
    finished = time.perf_counter()
    answer = _body_of(engine, asked, prompt, [done[key] for key in done])
    response = json_response([answer] if listed else answer)
    num_tokens = sum(len(completion.token_ids) for completion in done.values())
    response.headers.update(_timings(asked, len(prompt), num_tokens, began, validated, finished))
    return response


def _prompt(engine: AsyncEngine, asked: Generation) -> list[int]:
    ids = engine.encode(asked.inputs)
    return ids[-asked.truncate :] if asked.truncate else ids


def _deltas(engine: AsyncEngine, prompt: list[int], asked: Generation) -> AsyncIterator[Delta]:
    try:
        return engine.generate(prompt, asked.sampling)
    except PromptTooLongError as e:  # here the prompt's field is called inputs
        raise PromptTooLongError(e.num_tokens, e.limit, param="inputs", counted=e.counted) from e


def _timings(
    asked: Generation, num_prompt: int, num_tokens: int, began: float, validated: float, finished: float
) -> dict[str, str]:
    """TGI's response headers, in milliseconds."""
    inference = 1000 * (finished - validated)
    return {
        "x-compute-characters": str(len(asked.inputs)),
        "x-compute-time": str(round(inference / 1000)),
        "x-prompt-tokens": str(num_prompt),
        "x-generated-tokens": str(num_tokens),
        "x-total-time": str(round(1000 * (finished - began))),
        "x-validation-time": str(round(1000 * (validated - began))),
        "x-inference-time": str(round(inference)),
        "x-time-per-token": str(round(inference / max(1, num_tokens))),
    }


def _body_of(engine: AsyncEngine, asked: Generation, prompt: list[int], done: list[Completion]) -> dict[str, Any]:
    """The most likely sequence (by the mean over its tokens), and the others beside it."""
    ranked = sorted(done, key=_mean_logprob, reverse=True)
    texts = [(asked.inputs if asked.full_text else "") + "".join(completion.text) for completion in ranked]
    answer: dict[str, Any] = {"generated_text": texts[0]}
    if not asked.details:
        return answer
    prefill = shapes.prefill_of(engine, prompt, ranked[0].prompt_logprobs) if asked.prefill else []
    details = [
        shapes.sequence_details(engine, completion, prefill, asked.reported_seed, asked.top_n) for completion in ranked
    ]
    if len(ranked) > 1:
        details[0]["best_of_sequences"] = [
            {"generated_text": text, **detail} for text, detail in zip(texts[1:], details[1:], strict=True)
        ]
    return answer | {"details": details[0]}


def _mean_logprob(done: Completion) -> float:
    return sum(entry.logprob for entry in done.logprobs) / max(1, len(done.logprobs))


async def _events(
    engine: AsyncEngine, asked: Generation, stream: AsyncIterator[tuple[int, Delta]]
) -> AsyncIterator[bytes]:
    texts, answer = shapes.TokenTexts(engine), Completion()
    try:
        async for _, delta in stream:
            answer.add(delta)
            if delta.finish_reason == "error":
                raise failure(delta)
            first = len(answer.token_ids) - len(delta.token_ids)
            for at, (entry, text) in enumerate(zip(delta.logprobs, texts.of(delta), strict=True)):
                body: dict[str, Any] = {
                    "index": first + at + 1,
                    "token": shapes.token_body(engine, entry.token_id, text, entry.logprob),
                    "generated_text": None,
                    "details": None,
                }
                if asked.top_n:
                    body["top_tokens"] = shapes.top_tokens(engine, entry)
                if delta.finish_reason is not None and at == len(delta.token_ids) - 1:
                    body |= _ending(asked, delta, answer)
                yield event(body)
    finally:
        await close(stream)


def _ending(asked: Generation, delta: Delta, answer: Completion) -> dict[str, Any]:
    ending: dict[str, Any] = {"generated_text": (asked.inputs if asked.full_text else "") + "".join(answer.text)}
    if asked.details:
        ending["details"] = {
            "finish_reason": shapes.finish_reason(answer.finish_reason, answer.stop_reason),
            "generated_tokens": len(answer.token_ids),
            "seed": asked.reported_seed,
            "input_length": delta.num_prompt_tokens,
        }
    return ending
