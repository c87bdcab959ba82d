"""POST /v1/chat/completions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from octavo.base.errors import InvalidRequestError, PromptTooLongError
from octavo.base.messages import plain_messages
from octavo.base.sampling import SamplingParams
from octavo.base.types import AsyncEngine, Delta
from octavo.server.context import ServerContext
from octavo.server.http import EventTemplate, aside, event, event_stream, json_response, read_json, until_disconnect
from octavo.server.openai import shapes
from octavo.server.openai.answers import ChoiceWriter
from octavo.server.openai.protocol import ChatRequest
from octavo.server.streams import Usage, begun, close, collected, failure, merged

ROLES = ("system", "developer", "user", "assistant", "tool", "function")


async def chat_completions(request: Request) -> Response:
    return await answer_chat(request, await read_json(request, ServerContext.of(request).settings.max_body_bytes))


async def answer_chat(request: Request, fields: dict[str, Any]) -> Response:
    """The same for a body that has been read."""
    context = ServerContext.of(request)
    body = ChatRequest.of(fields)
    engine = context.engine
    sampling, tools = body.chat_sampling(engine.default_sampling()), body.offered_tools()
    prompt, begun_answer = await _prompt(engine, body, tools)
    writers = [
        ChoiceWriter(
            context.reader(prompt, tools, begun=begun_answer),
            first_call_only=body.parallel_tool_calls is False,
            hide_reasoning=not body.include_reasoning,
        )
        for _ in range(sampling.n)
    ]
    stream = context.observed(_deltas(engine, body, prompt, sampling, writers[0].marks), sampling.n)
    model = context.served_name(body.model)
    if body.stream:
        started = await until_disconnect(request, begun(merged([stream])))
        chunks = _chunks(engine, model, body, writers, prompt, started)
        return event_stream(chunks, shapes.error_body, last=shapes.DONE)
    usage = Usage()
    done = await until_disconnect(request, collected(merged([stream]), usage))
    choices = []
    for (_, index), completion in done.items():
        writer = writers[index]
        writer.delta("".join(completion.text), last=True)
        choice: dict[str, Any] = {
            "index": index,
            "message": writer.message(),
            "logprobs": shapes.chat_logprobs(engine, completion.logprobs) if body.logprobs else None,
            "finish_reason": writer.finish_reason(completion.finish_reason),
            "stop_reason": completion.stop_reason,
        }
        if body.return_token_ids:
            choice["token_ids"] = completion.token_ids
        choices.append(choice)
    answer = _head(model, engine, "chat.completion")
    answer |= {"choices": choices, "usage": shapes.usage_body(usage)}
    if body.prompt_logprobs is not None:
        first = next(iter(done.values()))
        answer["prompt_logprobs"] = shapes.prompt_logprobs_body(engine, first.prompt_logprobs)
    if body.return_token_ids:
        answer["prompt_token_ids"] = prompt
    return json_response(answer)


async def _prompt(engine: AsyncEngine, body: ChatRequest, tools: list[dict[str, Any]] | None) -> tuple[list[int], str]:
    """The prompt's tokens, and the part of the answer that the conversation ends with."""
    messages = plain_messages(body.messages)
    for i, message in enumerate(messages):
        if message["role"] not in ROLES:
            raise InvalidRequestError(
                f"messages[{i}].role is {message['role']!r}; it must be one of {', '.join(ROLES)}.",
                param=f"messages[{i}].role",
            )

    def render() -> list[int]:
        return engine.render_chat(
            messages,
            tools=tools,
            add_generation_prompt=body.add_generation_prompt and not body.continue_final_message,
            continue_final_message=body.continue_final_message,
            variables=body.chat_template_kwargs,
        )

    ids = await aside(sum(len(message["content"]) + 16 for message in messages), render)
    return ids, messages[-1]["content"] if body.continue_final_message else ""


def _deltas(
    engine: AsyncEngine, body: ChatRequest, prompt: list[int], sampling: SamplingParams, marks: tuple[str, ...]
) -> AsyncIterator[Delta]:
    try:
        return engine.generate(
            prompt,
            sampling,
            request_id=body.request_id,
            priority=body.priority,
            cache_salt=body.cache_salt,
            marks=marks,
        )
    except PromptTooLongError as e:  # here the prompt's field is called messages
        raise PromptTooLongError(e.num_tokens, e.limit, counted=e.counted) from e


def _head(model: str, engine: AsyncEngine, kind: str) -> dict[str, Any]:
    return {
        "id": shapes.new_id("chatcmpl"),
        "object": kind,
        "created": shapes.now(),
        "model": model,
        "system_fingerprint": engine.info.fingerprint,
    }


async def _chunks(
    engine: AsyncEngine,
    model: str,
    body: ChatRequest,
    writers: list[ChoiceWriter],
    prompt: list[int],
    stream: AsyncIterator[tuple[int, Delta]],
) -> AsyncIterator[bytes]:
    head = _head(model, engine, "chat.completion.chunk")
    usage = Usage()
    tail: dict[str, Any] = {"usage": None} if body.include_usage else {}
    plain = not (body.logprobs or body.return_token_ids or body.continuous_usage)
    templates: dict[int, EventTemplate] = {}  # for chunks of which their text is all there is to say: most
    try:
        for index in range(len(writers)):
            role = {"role": "assistant", "content": ""}
            first = {"index": index, "delta": role, "logprobs": None, "finish_reason": None}
            ids = {"prompt_token_ids": prompt} if body.return_token_ids and index == 0 else {}
            yield event(head | {"choices": [first]} | ids | tail)
        async for number, delta in stream:
            usage.add(number, delta)
            if delta.finish_reason == "error":
                raise failure(delta)
            if body.continuous_usage:
                tail = {"usage": shapes.usage_body(usage)}
            fields = writers[delta.index].delta(delta.text, last=delta.finish_reason is not None)
            if plain and delta.finish_reason is None and fields.keys() == {"content"}:
                if delta.index not in templates:
                    templates[delta.index] = EventTemplate(partial(_text_chunk, head, tail, delta.index))
                yield templates[delta.index].event(fields["content"])
                continue
            choice = _chunk_choice(engine, body, writers[delta.index], fields, delta)
            if choice is not None:
                yield event(head | {"choices": [choice]} | tail)
        if body.include_usage:
            yield event(head | {"choices": [], "usage": shapes.usage_body(usage)})
    finally:
        await close(stream)


def _text_chunk(head: dict[str, Any], tail: dict[str, Any], index: int, text: str) -> dict[str, Any]:
    choice = {"index": index, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
    return head | {"choices": [choice]} | tail


def _chunk_choice(
    engine: AsyncEngine, body: ChatRequest, writer: ChoiceWriter, fields: dict[str, Any], delta: Delta
) -> dict[str, Any] | None:
    """The choice of one chunk; None where a Delta has nothing to show yet (text held back)."""
    shown = fields or delta.finish_reason is not None or body.return_token_ids or (body.logprobs and delta.logprobs)
    if not shown:
        return None
    choice: dict[str, Any] = {
        "index": delta.index,
        "delta": fields,
        "logprobs": shapes.chat_logprobs(engine, delta.logprobs) if body.logprobs else None,
        "finish_reason": writer.finish_reason(delta.finish_reason),
    }
    if delta.finish_reason is not None:
        choice["stop_reason"] = delta.stop_reason
    if body.return_token_ids:
        choice["token_ids"] = list(delta.token_ids)
    return choice
