"""POST /v1/completions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from octavo.base.sampling import SamplingParams
from octavo.base.types import AsyncEngine, Delta, TokenLogprobs
from octavo.server.context import ServerContext
from octavo.server.http import EventTemplate, aside, event, event_stream, json_response, read_json, until_disconnect
from octavo.server.openai import shapes
from octavo.server.openai.protocol import CompletionRequest
from octavo.server.streams import Completion, Usage, begun, close, collected, failure, merged, without_output


async def completions(request: Request) -> Response:
    return await answer_completion(request, await read_json(request, ServerContext.of(request).settings.max_body_bytes))


async def answer_completion(request: Request, fields: dict[str, Any]) -> Response:
    """The same for a body that has been read."""
    context = ServerContext.of(request)
    body = CompletionRequest.of(fields)
    engine = context.engine
    sampling = body.completion_sampling(engine.default_sampling())
    given = body.prompts()
    prompts = await _encoded(engine, body, given)
    echoes = [""] * len(prompts)
    if body.echo:
        echoes = [p if isinstance(p, str) else engine.decode(p) for p in given]
    streams = [context.observed(deltas, sampling.n) for deltas in _deltas(engine, body, prompts, sampling)]
    stream = merged(streams)
    if body.only_prompt:
        stream = without_output(stream)
    head = {
        "id": shapes.new_id("cmpl"),
        "object": "text_completion",
        "created": shapes.now(),
        "model": context.served_name(body.model),
        "system_fingerprint": engine.info.fingerprint,
    }
    if body.stream:
        started = await until_disconnect(request, begun(stream))
        chunks = _chunks(engine, head, body, sampling.n, echoes, started)
        return event_stream(chunks, shapes.error_body, last=shapes.DONE)
    usage = Usage()
    done = await until_disconnect(request, collected(stream, usage))
    choices = [
        _choice(engine, body, prompt * sampling.n + index, completion, echoes[prompt], prompts[prompt])
        for (prompt, index), completion in done.items()
    ]
    return json_response(head | {"choices": choices, "usage": shapes.usage_body(usage)})


async def _encoded(engine: AsyncEngine, body: CompletionRequest, given: Sequence[str | list[int]]) -> list[list[int]]:
    def encode() -> list[list[int]]:
        return [
            engine.encode(p, add_special_tokens=body.add_special_tokens) if isinstance(p, str) else p for p in given
        ]

    return await aside(sum(len(p) + 16 for p in given if isinstance(p, str)), encode)


def _deltas(
    engine: AsyncEngine, body: CompletionRequest, prompts: Sequence[Sequence[int]], sampling: SamplingParams
) -> list[AsyncIterator[Delta]]:
    ids: list[str | None] = [body.request_id]
    if len(prompts) > 1:
        ids = [body.request_id and f"{body.request_id}-{i}" for i in range(len(prompts))]
    return [
        engine.generate(prompt, sampling, request_id=id, priority=body.priority, cache_salt=body.cache_salt)
        for prompt, id in zip(prompts, ids, strict=True)
    ]


def _choice(
    engine: AsyncEngine, body: CompletionRequest, number: int, done: Completion, echo: str, prompt: Sequence[int]
) -> dict[str, Any]:
    logprobs = None
    if body.logprobs is not None:
        entries: list[TokenLogprobs | None] = list(done.logprobs)
        ids = [entry.token_id for entry in done.logprobs]
        if body.echo:
            entries = [None, *done.prompt_logprobs, *entries]
            ids = [*prompt, *ids]
        logprobs = shapes.completion_logprobs(engine, entries, ids)
    choice: dict[str, Any] = {
        "index": number,
        "text": echo + "".join(done.text),
        "logprobs": logprobs,
        "finish_reason": done.finish_reason,
        "stop_reason": done.stop_reason,
    }
    if body.prompt_logprobs is not None:
        choice["prompt_logprobs"] = shapes.prompt_logprobs_body(engine, done.prompt_logprobs)
    if body.return_token_ids:
        choice |= {"token_ids": done.token_ids, "prompt_token_ids": list(prompt)}
    return choice


async def _chunks(
    engine: AsyncEngine,
    head: dict[str, Any],
    body: CompletionRequest,
    n: int,
    echoes: list[str],
    stream: AsyncIterator[tuple[int, Delta]],
) -> AsyncIterator[bytes]:
    usage = Usage()
    tail: dict[str, Any] = {"usage": None} if body.include_usage else {}
    offsets: dict[int, int] = {}
    templates: dict[int, EventTemplate] = {}
    try:
        for prompt, echo in enumerate(echoes):
            for index in range(n if echo else 0):
                choice = {"index": prompt * n + index, "text": echo, "logprobs": None, "finish_reason": None}
                yield event(head | {"choices": [choice]} | tail)
        async for prompt, delta in stream:
            usage.add(prompt, delta)
            if delta.finish_reason == "error":
                raise failure(delta)
            number = prompt * n + delta.index
            if body.continuous_usage:
                tail = {"usage": shapes.usage_body(usage)}
            elif _is_text(body, delta):
                if number not in templates:
                    templates[number] = EventTemplate(partial(_text_chunk, head, tail, number))
                yield templates[number].event(delta.text)
                continue
            if _shown(body, delta):
                yield event(head | {"choices": [_chunk_choice(engine, body, number, delta, offsets)]} | tail)
        if body.include_usage:
            yield event(head | {"choices": [], "usage": shapes.usage_body(usage)})
    finally:
        await close(stream)


def _is_text(body: CompletionRequest, delta: Delta) -> bool:
    """Whether all there is to say of a Delta is its text: most are such."""
    return bool(delta.text) and delta.finish_reason is None and body.logprobs is None and not body.return_token_ids


def _text_chunk(head: dict[str, Any], tail: dict[str, Any], number: int, text: str) -> dict[str, Any]:
    return head | {"choices": [{"index": number, "text": text, "logprobs": None, "finish_reason": None}]} | tail


def _shown(body: CompletionRequest, delta: Delta) -> bool:
    """Whether a Delta has something to show; text may be held back."""
    wanted = body.return_token_ids or (body.logprobs is not None and bool(delta.logprobs))
    return bool(delta.text) or delta.finish_reason is not None or wanted


def _chunk_choice(
    engine: AsyncEngine, body: CompletionRequest, number: int, delta: Delta, offsets: dict[int, int]
) -> dict[str, Any]:
    logprobs = None
    if body.logprobs is not None:
        ids = [entry.token_id for entry in delta.logprobs]
        offset = offsets.get(number, 0)
        logprobs = shapes.completion_logprobs(engine, delta.logprobs, ids, offset)
        offsets[number] = offset + sum(len(token) for token in logprobs["tokens"])
    choice: dict[str, Any] = {
        "index": number,
        "text": delta.text,
        "logprobs": logprobs,
        "finish_reason": delta.finish_reason,
    }
    if delta.finish_reason is not None:
        choice["stop_reason"] = delta.stop_reason
    if body.return_token_ids:
        choice["token_ids"] = list(delta.token_ids)
    return choice
