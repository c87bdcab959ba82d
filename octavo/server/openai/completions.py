"""POST /v1/completions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from octavo.base.types import AsyncEngine, Delta, TokenLogprobs
from octavo.server.context import ServerContext
from octavo.server.http import event, event_stream, json_response, read_json, until_disconnect, validated
from octavo.server.openai import shapes
from octavo.server.openai.protocol import CompletionRequest
from octavo.server.streams import Completion, Usage, begun, collected, merged

DONE = b"data: [DONE]\n\n"


async def completions(request: Request) -> Response:
    context = ServerContext.of(request)
    body = validated(CompletionRequest, await read_json(request, context.settings.max_body_bytes))
    body.refuse_unsupported()
    engine = context.engine
    wants_prompt = body.echo and body.logprobs is not None
    sampling = body.sampling(
        engine.default_sampling(),
        max_tokens=body.max_tokens,
        logprobs=body.logprobs,
        prompt_logprobs=body.logprobs if wants_prompt else body.prompt_logprobs,
    )
    special = True if body.add_special_tokens is None else body.add_special_tokens
    prompts = [
        engine.encode(prompt, add_special_tokens=special) if isinstance(prompt, str) else prompt
        for prompt in body.prompts()
    ]
    streams = [
        context.observed(
            engine.generate(
                prompt,
                sampling,
                request_id=f"{body.request_id}-{i}" if body.request_id and len(prompts) > 1 else body.request_id,
                priority=body.priority,
                cache_salt=body.cache_salt,
            )
        )
        for i, prompt in enumerate(prompts)
    ]
    echoes = _echoes(engine, body, prompts)
    head = {
        "id": shapes.new_id("cmpl"),
        "object": "text_completion",
        "created": shapes.now(),
        "model": context.served_name(body.model),
        "system_fingerprint": engine.info.fingerprint,
    }
    if body.stream:
        started = await until_disconnect(request, begun(merged(streams)))
        return event_stream(_chunks(engine, head, body, sampling.n, echoes, started))
    usage = Usage()
    done = await until_disconnect(request, collected(merged(streams), usage))
    choices = [
        _choice(engine, body, prompt * sampling.n + index, completion, echoes[prompt], prompts[prompt])
        for (prompt, index), completion in done.items()
    ]
    return json_response(head | {"choices": choices, "usage": shapes.usage_body(usage)})


def _echoes(engine: AsyncEngine, body: CompletionRequest, prompts: Sequence[Sequence[int]]) -> list[str]:
    if not body.echo:
        return [""] * len(prompts)
    given = body.prompts()
    return [p if isinstance(p, str) else engine.decode(ids) for p, ids in zip(given, prompts, strict=True)]


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
    options = body.stream_options
    blank: dict[str, Any] = {"usage": None} if options and options.include_usage else {}
    lengths: dict[int, int] = {}
    try:
        for prompt, echo in enumerate(echoes):
            for index in range(n if echo else 0):
                choice = {"index": prompt * n + index, "text": echo, "logprobs": None, "finish_reason": None}
                yield event(head | {"choices": [choice]} | blank)
        async for prompt, delta in stream:
            usage.add(prompt, delta)
            if delta.finish_reason == "error":
                yield event({"error": {"message": delta.error, "type": "server_error", "param": None, "code": 500}})
                break
            if options and options.continuous_usage_stats:
                blank = {"usage": shapes.usage_body(usage)}
            if delta.text or delta.finish_reason is not None or (body.logprobs is not None and delta.logprobs):
                number = prompt * n + delta.index
                yield event(head | {"choices": [_chunk_choice(engine, body, number, delta, lengths)]} | blank)
        else:
            if options and options.include_usage:
                yield event(head | {"choices": [], "usage": shapes.usage_body(usage)})
        yield DONE
    finally:
        await stream.aclose()  # type: ignore[attr-defined]


def _chunk_choice(
    engine: AsyncEngine, body: CompletionRequest, number: int, delta: Delta, lengths: dict[int, int]
) -> dict[str, Any]:
    logprobs = None
    if body.logprobs is not None:
        ids = [entry.token_id for entry in delta.logprobs]
        offset = lengths.get(number, 0)
        logprobs = shapes.completion_logprobs(engine, delta.logprobs, ids, offset)
        lengths[number] = offset + sum(len(token) for token in logprobs["tokens"])
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
