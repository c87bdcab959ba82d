"""Routes of llama.cpp's dialect; what it can do and this server cannot is refused by name."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from octavo.base.errors import InvalidRequestError, UnsupportedError
from octavo.base.messages import plain_messages, plain_tools
from octavo.server.context import ServerContext
from octavo.server.dialect import Dialect
from octavo.server.http import aside, json_response, read_json
from octavo.server.llama_cpp import shapes
from octavo.server.llama_cpp.completion import completion
from octavo.server.llama_cpp.protocol import DEFAULTS

_NOT_DONE = {
    "/infill": "filling in the middle is not done",
    "/embedding": "this model generates text",
    "/embeddings": "this model generates text",
    "/rerank": "this model generates text",
    "/reranking": "this model generates text",
    "/slots": "requests are not bound to slots; /metrics counts those that run and wait",
}


async def tokenize(request: Request, body: dict[str, Any]) -> Response:
    """The tokens of `content`, with their texts on request."""
    engine = ServerContext.of(request).engine
    content = body.get("content")
    if not isinstance(content, str):
        raise InvalidRequestError("content must be a text.", param="content")
    if body.get("parse_special", True) is not True:
        raise UnsupportedError("parse_special false is not supported by this server.", param="parse_special")
    special = body.get("add_special", False) is True
    ids = await aside(len(content), lambda: engine.encode(content, add_special_tokens=special))
    if body.get("with_pieces"):
        return json_response({"tokens": [{"id": i, "piece": shapes.piece(engine.token_bytes(i))} for i in ids]})
    return json_response({"tokens": ids})


async def apply_template(request: Request) -> Response:
    """The prompt that a conversation becomes."""
    context = ServerContext.of(request)
    body = await read_json(request, context.settings.max_body_bytes)
    messages, tools = plain_messages(body.get("messages")), plain_tools(body.get("tools"))
    text = context.engine.render_chat_text(messages, tools=tools)
    return json_response({"prompt": text})


async def props(request: Request) -> Response:
    """What this server is."""
    from octavo import __version__

    context = ServerContext.of(request)
    engine = context.engine
    settings = {**DEFAULTS, **engine.default_sampling()}
    return json_response(
        {
            "default_generation_settings": {"n_ctx": engine.info.max_model_len, "params": settings},
            "total_slots": engine.info.details.get("max_num_seqs", 1),
            "model_alias": context.names[0],
            "model_path": engine.info.name,
            "chat_template": engine.chat_template_source(tools=False),
            "modalities": {"vision": False, "audio": False},
            "build_info": f"octavo {__version__}",
        }
    )


async def not_done(request: Request) -> Response:
    path = request.url.path
    raise UnsupportedError(f"{path} is not supported by this server: {_NOT_DONE[path]}.")


def dialect() -> Dialect:
    post = dict.fromkeys(("/completion", "/completions"), completion) | {"/apply-template": apply_template}
    routes = [Route(path, handler, methods=["POST"]) for path, handler in post.items()]
    routes.append(Route("/props", props, methods=["GET"]))
    routes += [Route(path, not_done, methods=["GET"] if path == "/slots" else ["POST"]) for path in _NOT_DONE]
    return Dialect("llama.cpp", tuple(routes), shapes.refuse)
