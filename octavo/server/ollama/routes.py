"""Routes of Ollama's dialect; what it can do and this server cannot is refused by name."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from octavo.base.errors import InvalidRequestError, NotFoundError, UnsupportedError
from octavo.server.context import ServerContext
from octavo.server.dialect import Dialect
from octavo.server.http import json_response, read_json
from octavo.server.ollama import shapes
from octavo.server.ollama.generate import chat, generate

_NOT_DONE = {
    "/api/create": "the model is chosen when the server starts, and named with --served-model-name",
    "/api/copy": "give the server a second --served-model-name",
    "/api/pull": "the model is chosen when the server starts",
    "/api/push": "nothing is published from here",
    "/api/embed": "this model generates text",
    "/api/embeddings": "this model generates text",
}


async def tags(request: Request) -> Response:
    """The models there are."""
    context = ServerContext.of(request)
    info = context.engine.info
    return json_response({"models": [shapes.entry(info, name, context.started_at) for name in context.names]})


async def running(request: Request) -> Response:
    """The models that are loaded: the same."""
    context = ServerContext.of(request)
    info = context.engine.info
    state = {"size_vram": 0, "expires_at": shapes.NEVER, "context_length": info.max_model_len}
    return json_response({"models": [shapes.entry(info, name, context.started_at) | state for name in context.names]})


async def show(request: Request) -> Response:
    """What is known of one model."""
    context = ServerContext.of(request)
    body = await read_json(request, context.settings.max_body_bytes)
    name = body.get("model") or body.get("name")
    if not isinstance(name, str):
        raise InvalidRequestError("model is missing: give a name.", param="model")
    if name.removesuffix(":latest") not in context.names:
        raise NotFoundError(f"model '{name}' not found")
    info = context.engine.info
    defaults = context.engine.default_sampling()
    formats = context.formats(tools=True)
    capabilities = ["completion", *(["tools"] if formats.calls else []), *(["thinking"] if formats.reasoning else [])]
    return json_response(
        {
            "modelfile": f"FROM {context.names[0]}\n",
            "parameters": "\n".join(f"{key} {value}" for key, value in defaults.items()),
            "template": context.engine.chat_template_source(tools=False),
            "details": shapes.details(info),
            "model_info": _model_info(context),
            "capabilities": capabilities,
            "modified_at": shapes.entry(info, name, context.started_at)["modified_at"],
        }
    )


def _model_info(context: ServerContext) -> dict[str, Any]:
    info = context.engine.info
    return {
        "general.architecture": info.architecture,
        "general.parameter_count": info.num_parameters,
        f"{info.architecture}.context_length": info.max_model_len,
        f"{info.architecture}.vocab_size": info.vocab_size,
    }


async def version(_: Request) -> Response:
    from octavo import __version__

    return json_response({"version": __version__})


async def not_done(request: Request) -> Response:
    raise UnsupportedError(f"{request.url.path} is not supported by this server: {_NOT_DONE[request.url.path]}.")


async def delete(_: Request) -> Response:
    raise UnsupportedError("/api/delete is not supported by this server: it keeps the one model that it serves.")


def dialect() -> Dialect:
    post = {"/api/generate": generate, "/api/chat": chat, "/api/show": show} | dict.fromkeys(_NOT_DONE, not_done)
    get = {"/api/tags": tags, "/api/ps": running, "/api/version": version}
    routes = [Route(path, handler, methods=["POST"]) for path, handler in post.items()]
    routes += [Route(path, handler, methods=["GET"]) for path, handler in get.items()]
    routes.append(Route("/api/delete", delete, methods=["DELETE"]))
    return Dialect("ollama", tuple(routes), shapes.refuse, open_paths=frozenset({"/api/version"}), prefixes=("/api/",))
