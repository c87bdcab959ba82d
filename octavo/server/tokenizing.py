"""POST /tokenize and /detokenize, which three dialects have: a field of the body says whose request it is."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from octavo.base.errors import InvalidRequestError, OctavoError
from octavo.server.context import ServerContext
from octavo.server.http import json_response, read_json
from octavo.server.llama_cpp import routes as llama_cpp
from octavo.server.llama_cpp.shapes import refuse as refuse_llama_cpp
from octavo.server.openai import routes as openai
from octavo.server.openai.tokenize import tokenize as tokenize_openai
from octavo.server.tgi import routes as tgi
from octavo.server.tgi.shapes import refuse as refuse_tgi

_SPEAKERS = {"content": (llama_cpp.tokenize, refuse_llama_cpp), "inputs": (tgi.tokenize, refuse_tgi)}


async def tokenize(request: Request) -> Response:
    """llama.cpp's request has `content`, TGI's `inputs`, vLLM's `prompt` or `messages`."""
    body = await read_json(request, ServerContext.of(request).settings.max_body_bytes)
    answer, refuse = next((both for key, both in _SPEAKERS.items() if key in body), (tokenize_openai, openai.refuse))
    try:
        return await answer(request, body)
    except OctavoError as error:
        return refuse(error)


async def detokenize(request: Request) -> Response:
    """The text of `tokens`, under vLLM's name for it and under llama.cpp's."""
    context = ServerContext.of(request)
    body = await read_json(request, context.settings.max_body_bytes)
    ids = body.get("tokens")
    if not isinstance(ids, list) or not all(isinstance(i, int) and not isinstance(i, bool) for i in ids):
        raise InvalidRequestError("tokens must be a list of token ids.", param="tokens")
    size = context.engine.info.vocab_size
    for at, token_id in enumerate(ids):
        if not 0 <= token_id < size:
            raise InvalidRequestError(
                f"tokens[{at}] is {token_id}; this model's ids go from 0 to {size - 1}.", param="tokens"
            )
    text = context.engine.decode(ids)
    return json_response({"prompt": text, "content": text})
