"""POST /v1/messages and /v1/messages/count_tokens."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from octavo.base.errors import PromptTooLongError
from octavo.base.types import AsyncEngine, Delta
from octavo.server.anthropic import shapes
from octavo.server.anthropic.protocol import MessagesBody, chat_messages, count_body, create_body
from octavo.server.context import ServerContext
from octavo.server.dialect import Dialect
from octavo.server.http import aside, event_stream, json_response, read_json, until_disconnect
from octavo.server.streams import answer_parts, begun, close, merged
from octavo.text.answer import AnswerReader, Part, Thought, Words, arguments_of
from octavo.text.calls import CallArguments, CallBegin


async def create(request: Request) -> Response:
    """One message, whole or as events."""
    context = ServerContext.of(request)
    body = create_body(await read_json(request, context.settings.max_body_bytes))
    engine, tools = context.engine, body.offered_tools()
    sampling = body.sampling(engine.default_sampling())
    prompt, begun_answer = await _prompt(engine, body, tools)
    reader = context.reader(prompt, tools, begun=begun_answer)
    try:
        deltas = engine.generate(prompt, sampling, marks=reader.marks)
    except PromptTooLongError as e:
        raise PromptTooLongError(e.num_tokens, e.limit, counted=e.counted) from e
    stream = merged([context.observed(deltas, 1)])
    message = shapes.new_message(context.served_name(body.model))
    blocks = _Blocks(first_call_only=body.first_call_only)
    if body.stream:
        started = await until_disconnect(request, begun(stream))
        return event_stream(_events(message, blocks, reader, started), shapes.error_body, encode=shapes.named_event)
    return json_response(await until_disconnect(request, _whole(message, blocks, reader, stream)))


async def count_tokens(request: Request) -> Response:
    """How long a prompt is, without an answer to it."""
    context = ServerContext.of(request)
    body = count_body(await read_json(request, context.settings.max_body_bytes))
    prompt, _ = await _prompt(context.engine, body, body.offered_tools())
    return json_response({"input_tokens": len(prompt)})


async def _prompt(engine: AsyncEngine, body: MessagesBody, tools: list[dict[str, Any]] | None) -> tuple[list[int], str]:
    """The prompt's tokens, and the part of the answer that the conversation ends with."""
    messages, begun_answer = chat_messages(body)
    variables = {} if body.thinks is None else {"enable_thinking": body.thinks}

    def render() -> list[int]:
        return engine.render_chat(
            messages,
            tools=tools,
            add_generation_prompt=not begun_answer,
            continue_final_message=begun_answer,
            variables=variables,
        )

    ids = await aside(sum(len(message["content"]) + 16 for message in messages), render)
    return ids, messages[-1]["content"] if begun_answer else ""


class _Blocks:
    """The blocks of one answer, opened and closed as its parts come."""

    def __init__(self, *, first_call_only: bool) -> None:
        self.content: list[dict[str, Any]] = []
        self._first_call_only = first_call_only

    def add(self, part: Part) -> Iterator[dict[str, Any]]:
        """The events of one part."""
        if self._first_call_only and isinstance(part, CallBegin | CallArguments) and part.index > 0:
            return
        kind, key, text = _piece(part)
        last = self.content[-1] if self.content else None
        if last is None or last["type"] != kind or isinstance(part, CallBegin):
            yield from self.close()
            block: dict[str, Any] = {"type": kind, key: ""}
            if isinstance(part, CallBegin):
                block = {"type": kind, "id": shapes.new_call_id(), "name": part.name, "input": ""}
            elif kind == "thinking":
                block["signature"] = ""
            self.content.append(block)
            shown = block | ({"input": {}} if kind == "tool_use" else {})
            yield {"type": "content_block_start", "index": len(self.content) - 1, "content_block": shown}
        if text:
            self.content[-1][key] += text
            delta = {"type": "input_json_delta", "partial_json": text} if kind == "tool_use" else None
            delta = delta or {"type": f"{kind}_delta", key: text}
            yield {"type": "content_block_delta", "index": len(self.content) - 1, "delta": delta}

    def close(self) -> Iterator[dict[str, Any]]:
        """The end of the block that is open."""
        if self.content:
            yield {"type": "content_block_stop", "index": len(self.content) - 1}

    def whole(self) -> list[dict[str, Any]]:
        """The blocks of a message that is not streamed; a call that was cut off has what can be read of it."""
        return [
            block | {"input": arguments_of(block["input"])} if block["type"] == "tool_use" else block
            for block in self.content
        ]


def _piece(part: Part) -> tuple[str, str, str]:
    """(type of block, its field, the text that the part adds)."""
    if isinstance(part, Thought):
        return "thinking", "thinking", part.text
    if isinstance(part, Words):
        return "text", "text", part.text
    return "tool_use", "input", "" if isinstance(part, CallBegin) else part.text


async def _whole(
    message: dict[str, Any], blocks: _Blocks, reader: AnswerReader, stream: AsyncIterator[tuple[int, Delta]]
) -> dict[str, Any]:
    last: Delta | None = None
    async for delta, parts in answer_parts(reader, stream):
        last = delta
        for part in parts:
            deque(blocks.add(part), maxlen=0)
    assert last is not None  # every stream ends with a Delta
    facts = shapes.stop_facts(last.finish_reason, last.stop_reason, reader.num_calls)
    return message | {"content": blocks.whole(), "usage": shapes.usage_body(last, last.num_output_tokens)} | facts


async def _events(
    message: dict[str, Any], blocks: _Blocks, reader: AnswerReader, stream: AsyncIterator[tuple[int, Delta]]
) -> AsyncIterator[bytes]:
    last: Delta | None = None
    pieces = answer_parts(reader, stream)
    try:
        async for delta, parts in pieces:
            if last is None:
                start = message | {"usage": shapes.usage_body(delta, 0)}
                yield shapes.named_event({"type": "message_start", "message": start})
                yield shapes.named_event({"type": "ping"})
            last = delta
            for part in parts:
                for data in blocks.add(part):
                    yield shapes.named_event(data)
    finally:
        await close(pieces)
    assert last is not None  # every stream ends with a Delta
    for data in blocks.close():
        yield shapes.named_event(data)
    facts = shapes.stop_facts(last.finish_reason, last.stop_reason, reader.num_calls)
    usage = shapes.usage_body(last, last.num_output_tokens)
    yield shapes.named_event({"type": "message_delta", "delta": facts, "usage": usage})
    yield shapes.named_event({"type": "message_stop"})


def dialect() -> Dialect:
    routes = (
        Route("/v1/messages", create, methods=["POST"]),
        Route("/v1/messages/count_tokens", count_tokens, methods=["POST"]),
    )
    return Dialect("anthropic", routes, shapes.refuse, prefixes=("/v1/messages",))
