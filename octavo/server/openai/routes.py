"""Routes of the OpenAI dialect, and /v1/models."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from octavo.base.errors import NotFoundError, OctavoError
from octavo.server.context import ServerContext
from octavo.server.dialect import Dialect
from octavo.server.http import error_response, json_response
from octavo.server.openai.chat import chat_completions
from octavo.server.openai.completions import completions
from octavo.server.openai.shapes import error_body


def _model(context: ServerContext, name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": context.started_at,
        "owned_by": "octavo",
        "root": context.engine.info.name,
        "max_model_len": context.engine.info.max_model_len,
    }


async def list_models(request: Request) -> Response:
    context = ServerContext.of(request)
    return json_response({"object": "list", "data": [_model(context, name) for name in context.names]})


async def show_model(request: Request) -> Response:
    context = ServerContext.of(request)
    name = request.path_params["model"]
    if name not in context.names:
        raise NotFoundError(f"No model {name!r} here. This server has: {', '.join(context.names)}.")
    return json_response(_model(context, name))


def refuse(error: OctavoError) -> Response:
    return error_response(error, error_body)


def dialect() -> Dialect:
    routes = (
        Route("/v1/models", list_models, methods=["GET"]),
        Route("/v1/models/{model:path}", show_model, methods=["GET"]),
        Route("/v1/chat/completions", chat_completions, methods=["POST"]),
        Route("/v1/completions", completions, methods=["POST"]),
    )
    return Dialect("openai", routes, refuse)
