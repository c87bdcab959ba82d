"""vLLM's way to tokenize: a prompt or a conversation in, ids and their number out."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from octavo.base.errors import InvalidRequestError, UnsupportedError
from octavo.base.messages import plain_messages, plain_tools
from octavo.server.context import ServerContext
from octavo.server.http import aside, json_response


async def tokenize(request: Request, body: dict[str, Any]) -> Response:
    """The ids of `prompt` or of `messages` as the template writes them."""
    engine = ServerContext.of(request).engine
    known = {"model", "prompt", "messages", "add_special_tokens", "add_generation_prompt", "continue_final_message",
             "chat_template_kwargs", "tools", "return_token_strs"}  # fmt: skip
    for name in body.keys() - known:
        raise UnsupportedError(f"{name} is not supported here: leave it out.", param=name)
    if "messages" in body:
        messages = plain_messages(body["messages"])
        tools = plain_tools(body.get("tools"))
        continues = body.get("continue_final_message") is True
        ids = await aside(
            sum(len(message["content"]) for message in messages),
            lambda: engine.render_chat(
                messages,
                tools=tools,
                add_generation_prompt=body.get("add_generation_prompt", True) is not False and not continues,
                continue_final_message=continues,
                variables=body.get("chat_template_kwargs"),
            ),
        )
    elif isinstance(prompt := body.get("prompt"), str):
        special = body.get("add_special_tokens", True) is not False
        ids = await aside(len(prompt), lambda: engine.encode(prompt, add_special_tokens=special))
    else:
        raise InvalidRequestError("Give a prompt (a text) or messages.", param="prompt")
    strings = [engine.token_text(i) for i in ids] if body.get("return_token_strs") else None
    answer = {"count": len(ids), "max_model_len": engine.info.max_model_len, "tokens": ids, "token_strs": strings}
    return json_response(answer)
