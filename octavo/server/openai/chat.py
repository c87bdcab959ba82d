"""POST /v1/chat/completions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from octavo.base.types import AsyncEngine, Delta
from octavo.server.context import ServerContext
from octavo.server.http import event, event_stream, json_response, read_json, until_disconnect, validated
from octavo.server.openai import shapes
from octavo.server.openai.protocol import ChatRequest
from octavo.server.streams import Usage, begun, collected, merged

DONE = b"data: [DONE]\n\n"


async def chat_completions(request: Request) -> Response:
    context = ServerContext.of(request)
    body = validated(ChatRequest, await read_json(request, context.settings.max_body_bytes))
    body.refuse_unsupported()
    engine = context.engine
    sampling = body.chat_sampling(engine.default_sampling())
    prompt = engine.render_chat(
        body.messages,
        add_generation_prompt=body.add_generation_prompt and not body.continue_final_message,
        continue_final_message=body.continue_final_message,
        variables=body.chat_template_kwargs,
    )
    stream = context.observed(
        engine.generate(
            prompt, sampling, request_id=body.request_id, priority=body.priority, cache_salt=body.cache_salt
        )
    )
    if body.stream:
        started = await until_disconnect(request, begun(merged([stream])))
        return event_stream(_chunks(engine, context.served_name(body.model), body, sampling.n, started))
    usage = Usage()
    done = await until_disconnect(request, collected(merged([stream]), usage))
    choices = []
    for (_, index), completion in done.items():
        choice: dict[str, Any] = {
            "index": index,
            "message": {"role": "assistant", "content": "".join(completion.text), "refusal": None},
            "logprobs": shapes.chat_logprobs(engine, completion.logprobs) if body.logprobs else None,
            "finish_reason": completion.finish_reason,
            "stop_reason": completion.stop_reason,
        }
        if body.return_token_ids:
            choice["token_ids"] = completion.token_ids
        choices.append(choice)
    answer = _head(context.served_name(body.model), engine, "chat.completion")
    answer |= {"choices": choices, "usage": shapes.usage_body(usage)}
    if body.prompt_logprobs is not None:
        first = next(iter(done.values()))
        answer["prompt_logprobs"] = shapes.prompt_logprobs_body(engine, first.prompt_logprobs)
    if body.return_token_ids:
        answer["prompt_token_ids"] = list(prompt)
    return json_response(answer)


def _head(model: str, engine: AsyncEngine, kind: str) -> dict[str, Any]:
    return {
        "id": shapes.new_id("chatcmpl"),
        "object": kind,
        "created": shapes.now(),
        "model": model,
        "system_fingerprint": engine.info.fingerprint,
    }


async def _chunks(
    engine: AsyncEngine, model: str, body: ChatRequest, n: int, stream: AsyncIterator[tuple[int, Delta]]
) -> AsyncIterator[bytes]:
    head = _head(model, engine, "chat.completion.chunk")
    usage = Usage()
    options = body.stream_options
    blank: dict[str, Any] = {"usage": None} if options and options.include_usage else {}
    for index in range(n):
        role = {"index": index, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
        yield event(head | {"choices": [role]} | blank)
    try:
        async for prompt, delta in stream:
            usage.add(prompt, delta)
            if delta.finish_reason == "error":
                yield event({"error": {"message": delta.error, "type": "server_error", "param": None, "code": 500}})
                yield DONE
                return
            if options and options.continuous_usage_stats:
                blank = {"usage": shapes.usage_body(usage)}
            choice = _chunk_choice(engine, body, delta)
            if choice is not None:
                yield event(head | {"choices": [choice]} | blank)
        if options and options.include_usage:
            yield event(head | {"choices": [], "usage": shapes.usage_body(usage)})
        yield DONE
    finally:
        await stream.aclose()  # type: ignore[attr-defined]


def _chunk_choice(engine: AsyncEngine, body: ChatRequest, delta: Delta) -> dict[str, Any] | None:
    """The choice of one chunk; None where a Delta has nothing to show yet (text held back)."""
    if not delta.text and delta.finish_reason is None and not (body.logprobs and delta.logprobs):
        return None
    choice: dict[str, Any] = {
        "index": delta.index,
        "delta": {"content": delta.text} if delta.text else {},
        "logprobs": shapes.chat_logprobs(engine, delta.logprobs) if body.logprobs else None,
        "finish_reason": delta.finish_reason,
    }
    if delta.finish_reason is not None:
        choice["stop_reason"] = delta.stop_reason
    if body.return_token_ids:
        choice["token_ids"] = list(delta.token_ids)
    return choice
