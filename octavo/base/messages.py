"""Chat messages in OpenAI's shape, brought to what chat templates take: a role and a text.

Knows no template and no tokenizer. Source: OpenAI API reference, chat completion request messages.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from octavo.base.errors import InvalidRequestError, UnsupportedError

Message = Mapping[str, Any]


def plain_messages(messages: object) -> list[dict[str, Any]]:
    """A copy of the messages in which every content is a text.

    Lists of text parts are joined by line breaks; an assistant's missing content (it called tools) becomes an empty
    text. All other fields are kept.

    Raises:
        InvalidRequestError: no list of objects with a role and a content; `param` is the path of the fault.
        UnsupportedError: a part that is not text, by its type.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes):
        raise InvalidRequestError("messages must be a list of objects with role and content.", param="messages")
    if not messages:
        raise InvalidRequestError("The conversation is empty: give at least one message.", param="messages")
    return [_plain(message, f"messages[{i}]") for i, message in enumerate(messages)]


def plain_tools(tools: object) -> list[dict[str, Any]] | None:
    """Tools in OpenAI's shape, checked; None where there are none.

    Raises:
        InvalidRequestError: an entry that is no function with a name and a schema; `param` is its path.
    """
    if tools is None or tools == []:
        return None
    if not isinstance(tools, Sequence) or isinstance(tools, str | bytes):
        raise InvalidRequestError("tools must be a list of objects.", param="tools")
    for at, tool in enumerate(tools):
        where = f"tools[{at}]"
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or tool.get("type", "function") != "function":
            raise InvalidRequestError(f"{where} must be an object of the type 'function' with a function.", param=where)
        if not isinstance(function.get("name"), str) or not function["name"]:
            raise InvalidRequestError(f"{where}.function must have a name.", param=f"{where}.function.name")
        if not isinstance(function.get("parameters", {}), Mapping | None):
            path = f"{where}.function.parameters"
            raise InvalidRequestError(f"{path} must be a JSON schema: an object.", param=path)
    return [{**tool, "type": "function"} for tool in tools]


def _plain(message: object, where: str) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise InvalidRequestError(f"{where} must be an object with role and content.", param=where)
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or not role:
        raise InvalidRequestError(f"{where}.role must be a text such as 'user', got {role!r}.", param=f"{where}.role")
    if content is None and role != "assistant":
        raise InvalidRequestError(f"{where}.content is missing: give a text.", param=f"{where}.content")
    plain = {**message, "content": _text(content, f"{where}.content")}
    if message.get("tool_calls"):
        plain["tool_calls"] = _calls(message["tool_calls"], f"{where}.tool_calls")
    return plain


def _calls(calls: object, where: str) -> list[dict[str, Any]]:
    """The calls with their arguments as objects: clients send them as a JSON text, templates write them out."""
    if not isinstance(calls, Sequence) or not all(isinstance(call, Mapping) for call in calls):
        raise InvalidRequestError(f"{where} must be a list of objects.", param=where)
    plain = []
    for at, call in enumerate(calls):
        function = call.get("function")
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            path = f"{where}[{at}].function"
            raise InvalidRequestError(f"{path} must be an object with name and arguments.", param=path)
        arguments = _arguments(function.get("arguments"), f"{where}[{at}].function.arguments")
        plain.append({**call, "function": {**function, "arguments": arguments}})
    return plain


def _arguments(arguments: object, where: str) -> dict[str, Any]:
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError) as error:
            raise InvalidRequestError(f"{where} is not valid JSON: {error}.", param=where) from error
    if arguments is None:
        return {}
    if not isinstance(arguments, Mapping):
        raise InvalidRequestError(f"{where} must be an object, or the JSON text of one.", param=where)
    return dict(arguments)


def _text(content: object, where: str) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence) and not isinstance(content, bytes):
        return "\n".join(_part(part, f"{where}[{i}]") for i, part in enumerate(content))
    raise InvalidRequestError(
        f"{where} must be a text or a list of text parts, got a {type(content).__name__}.", param=where
    )


def _part(part: object, where: str) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        raise InvalidRequestError(f"{where} must be an object with a type.", param=where)
    kind = part.get("type", "text" if "text" in part else None)
    if kind not in ("text", "refusal"):
        raise UnsupportedError(
            f"{where} has the type {kind!r}: this server takes parts of the type 'text' only.", param=f"{where}.type"
        )
    text = part.get(kind)
    if not isinstance(text, str):
        raise InvalidRequestError(f"{where}.{kind} must be a text, got {text!r}.", param=f"{where}.{kind}")
    return text
