"""POST /invocations: the one route that SageMaker's containers have. The body says whose request it is."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from octavo.base.errors import InvalidRequestError
from octavo.server.context import ServerContext
from octavo.server.http import read_json
from octavo.server.openai.chat import answer_chat
from octavo.server.openai.completions import answer_completion
from octavo.server.tgi.generate import answer_compat


async def invocations(request: Request) -> Response:
    """TGI's native request, a chat or a completion, as the first of their fields that is there tells."""
    body = await read_json(request, ServerContext.of(request).settings.max_body_bytes)
    if "inputs" in body:
        return await answer_compat(request, body)
    if "messages" in body:
        return await answer_chat(request, body)
    if "prompt" in body:
        return await answer_completion(request, body)
    raise InvalidRequestError("The body needs one of inputs (TGI), messages (chat) and prompt (completion).")
