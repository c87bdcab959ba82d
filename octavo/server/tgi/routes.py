"""Routes of TGI's native dialect, /info, and the two that only tokenize."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from octavo.base.messages import plain_messages, plain_tools
from octavo.server.context import ServerContext
from octavo.server.dialect import Dialect
from octavo.server.http import aside, json_response, read_json
from octavo.server.tgi import protocol, shapes
from octavo.server.tgi.generate import compat_generate, generate, generate_stream

_MAX_REQUESTS_PER_PROMPT_LIST = 1024  # /v1/completions takes so many prompts at once


async def info(request: Request) -> Response:
    """What serves here; some clients read the limits from it."""
    from octavo import __version__

    context = ServerContext.of(request)
    model = context.engine.info
    return json_response(
        {
            "model_id": context.names[0],
            "model_sha": None,
            "model_pipeline_tag": "text-generation",
            "max_concurrent_requests": model.details.get("max_num_seqs", 0),
            "max_best_of": protocol.MAX_BEST_OF,
            "max_stop_sequences": protocol.MAX_STOP_SEQUENCES,
            "max_input_tokens": model.max_model_len - 1,
            "max_total_tokens": model.max_model_len,
            "validation_workers": 1,
            "max_client_batch_size": _MAX_REQUESTS_PER_PROMPT_LIST,
            "router": "octavo",
            "version": __version__,
            "sha": None,
            "docker_label": None,
            "notes": list(model.details.get("notes", ())),
        }
    )


async def health(request: Request) -> Response:
    if not ServerContext.of(request).engine.alive:
        return json_response({"error": "The engine process has ended.", "error_type": "healthcheck"}, 503)
    return Response(status_code=200)


async def tokenize(request: Request, fields: dict[str, Any]) -> Response:
    """The tokens of `inputs`, with the range of characters each one covers."""
    body = protocol.native_body(fields)
    return json_response(await aside(len(body.inputs), lambda: _tokens(request, body.inputs, special=True)))


async def chat_tokenize(request: Request) -> Response:
    """The prompt that a conversation becomes, and its tokens. Only `messages` and `tools` matter."""
    body = await _read(request)
    engine = ServerContext.of(request).engine
    messages, tools = plain_messages(body.get("messages")), plain_tools(body.get("tools"))

    def render() -> dict[str, Any]:
        text = engine.render_chat_text(messages, tools=tools)
        return {"tokenize_response": _tokens(request, text, special=False), "templated_text": text}

    return json_response(await aside(sum(len(m["content"]) for m in messages), render))


async def _read(request: Request) -> dict[str, Any]:
    return await read_json(request, ServerContext.of(request).settings.max_body_bytes)


def _tokens(request: Request, text: str, *, special: bool) -> list[dict[str, Any]]:
    spans = ServerContext.of(request).engine.encode_spans(text, add_special_tokens=special)
    return [{"id": id, "text": text[start:stop], "start": start, "stop": stop} for id, start, stop in spans]


def dialect() -> Dialect:
    post = {"/generate": generate, "/generate_stream": generate_stream, "/chat_tokenize": chat_tokenize}
    post |= dict.fromkeys(("/", "/v1", "/v1/"), compat_generate)  # wherever a client's base URL points
    get = {"/info": info, "/v1/info": info, "/v1/health": health, "/ping": health}
    routes = [Route(path, handler, methods=["POST"]) for path, handler in post.items()]
    routes += [Route(path, handler, methods=["GET"]) for path, handler in get.items()]
    return Dialect("tgi", tuple(routes), shapes.refuse, open_paths=frozenset(get))
