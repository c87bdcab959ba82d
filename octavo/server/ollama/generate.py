"""POST /api/generate and /api/chat: a stream of lines by default, one object on request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from octavo.base.messages import plain_messages
from octavo.base.types import AsyncEngine, Delta
from octavo.server.context import ServerContext
from octavo.server.http import aside, event_stream, json_response, read_json, until_disconnect
from octavo.server.ollama import shapes
from octavo.server.ollama.protocol import AskBody, ChatBody, GenerateBody, chat_body, chat_messages, generate_body
from octavo.server.streams import answer_parts, begun, close, merged
from octavo.text.answer import PLAIN, AnswerReader, Part, Thought, Words, arguments_of
from octavo.text.calls import CallBegin

Piece = dict[str, Any]  # what a line adds: text, thinking, tool calls


async def generate(request: Request) -> Response:
    context = ServerContext.of(request)
    body = generate_body(await read_json(request, context.settings.max_body_bytes))
    if not body.prompt:
        return json_response(shapes.loaded(body.model) | {"response": ""})
    prompt = await aside(len(body.prompt), lambda: _generate_prompt(context.engine, body))
    reader = PLAIN.reader("", None) if body.raw else context.reader(prompt, None)
    return await _answer(request, body, prompt, reader, _as_response, keeps_context=not body.raw)


async def chat(request: Request) -> Response:
    context = ServerContext.of(request)
    body = chat_body(await read_json(request, context.settings.max_body_bytes))
    if not body.messages:
        return json_response(shapes.loaded(body.model) | {"message": {"role": "assistant", "content": ""}})
    messages = plain_messages(chat_messages(body))
    size = sum(len(message["content"]) + 16 for message in messages)
    prompt = await aside(size, lambda: _chat_prompt(context.engine, body, messages))
    begun_answer = messages[-1]["content"] if messages[-1]["role"] == "assistant" else ""
    reader = context.reader(prompt, body.tools, begun=begun_answer)
    return await _answer(request, body, prompt, reader, _as_message)


def _generate_prompt(engine: AsyncEngine, body: GenerateBody) -> list[int]:
    if body.raw:
        return engine.encode(body.prompt)
    messages = [{"role": "system", "content": body.system}] if body.system else []
    messages.append({"role": "user", "content": body.prompt})
    return [*(body.context or ()), *engine.render_chat(messages, variables=body.variables)]


def _chat_prompt(engine: AsyncEngine, body: ChatBody, messages: list[dict[str, Any]]) -> list[int]:
    begun_answer = messages[-1]["role"] == "assistant"  # to be continued
    return engine.render_chat(
        messages,
        tools=body.tools,
        add_generation_prompt=not begun_answer,
        continue_final_message=begun_answer,
        variables=body.variables,
    )


def _as_response(piece: Piece) -> Piece:
    return {"response": piece.get("content", "")} | ({"thinking": piece["thinking"]} if "thinking" in piece else {})


def _as_message(piece: Piece) -> Piece:
    return {"message": {"role": "assistant", "content": "", **piece}}


async def _answer(
    request: Request,
    body: AskBody,
    prompt: list[int],
    reader: AnswerReader,
    shape: Callable[[Piece], Piece],
    *,
    keeps_context: bool = False,
) -> Response:
    context, clock = ServerContext.of(request), shapes.Clock()
    engine = context.engine
    sampling = body.sampling(engine.default_sampling(), engine.info.max_model_len)
    deltas = engine.generate(prompt, sampling, marks=reader.marks)
    stream = merged([context.observed(deltas, 1)])
    if body.stream:
        started = await until_disconnect(request, begun(stream))
        lines = _lines(body.model, shape, _pieces(reader, started, clock), prompt if keeps_context else None, clock)
        return event_stream(lines, shapes.error_body, encode=shapes.line, media_type="application/x-ndjson")
    whole, last, ids = await until_disconnect(request, _whole(_pieces(reader, stream, clock)))
    answer = shapes.head(body.model) | shape(whole) | clock.totals(last)
    return json_response(answer | ({"context": [*prompt, *ids]} if keeps_context else {}))


class _Calls:
    """Collects calls, which Ollama shows whole."""

    def __init__(self) -> None:
        self._name: str | None = None
        self._arguments = ""

    def add(self, part: Part) -> list[dict[str, Any]]:
        """The calls that are complete now that this part has come."""
        if isinstance(part, CallBegin):
            done = self.end()
            self._name = part.name
            return done
        assert not isinstance(part, Words | Thought)
        self._arguments += part.text
        return []

    def end(self) -> list[dict[str, Any]]:
        """The call that was being written, if one was."""
        if self._name is None:
            return []
        call = {"function": {"name": self._name, "arguments": arguments_of(self._arguments)}}
        self._name, self._arguments = None, ""
        return [call]


async def _pieces(
    reader: AnswerReader, stream: AsyncIterator[tuple[int, Delta]], clock: shapes.Clock
) -> AsyncIterator[tuple[Delta, Piece]]:
    """(Delta, what it adds), the last one included."""
    calls = _Calls()
    answer = answer_parts(reader, stream)
    try:
        async for delta, parts in answer:
            clock.saw(delta)
            piece = _piece(parts, calls)
            if delta.finish_reason is not None and (rest := calls.end()):
                piece.setdefault("tool_calls", []).extend(rest)
            yield delta, piece
    finally:
        await close(answer)


def _piece(parts: list[Part], calls: _Calls) -> Piece:
    piece: Piece = {}
    for part in parts:
        if isinstance(part, Words | Thought):
            key = "content" if isinstance(part, Words) else "thinking"
            piece[key] = piece.get(key, "") + part.text
        elif done := calls.add(part):
            piece.setdefault("tool_calls", []).extend(done)
    return piece


async def _whole(pieces: AsyncIterator[tuple[Delta, Piece]]) -> tuple[Piece, Delta, list[int]]:
    whole: Piece = {}
    ids: list[int] = []
    last: Delta | None = None
    async for delta, piece in pieces:
        last = delta
        ids += delta.token_ids
        for key, value in piece.items():
            whole[key] = whole[key] + value if key in whole else value
    assert last is not None  # every stream ends with a Delta
    return whole, last, ids


async def _lines(
    model: str,
    shape: Callable[[Piece], Piece],
    pieces: AsyncIterator[tuple[Delta, Piece]],
    prompt: list[int] | None,
    clock: shapes.Clock,
) -> AsyncIterator[bytes]:
    ids: list[int] = []
    try:
        async for delta, piece in pieces:
            ids += delta.token_ids
            if any(piece.values()):
                yield shapes.line(shapes.head(model) | shape(piece) | {"done": False})
            if delta.finish_reason is not None:
                last = shapes.head(model) | shape({}) | clock.totals(delta)
                yield shapes.line(last | ({"context": [*prompt, *ids]} if prompt is not None else {}))
    finally:
        await close(pieces)
