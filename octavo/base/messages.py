"""Chat messages in OpenAI's shape, brought to what chat templates take: a role and a text.

Knows no template and no tokenizer. Source: OpenAI API reference, chat completion request messages.
"""

from __future__ import annotations

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


def _plain(message: object, where: str) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise InvalidRequestError(f"{where} must be an object with role and content.", param=where)
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or not role:
        raise InvalidRequestError(f"{where}.role must be a text such as 'user', got {role!r}.", param=f"{where}.role")
    if content is None and role != "assistant":
        raise InvalidRequestError(f"{where}.content is missing: give a text.", param=f"{where}.content")
    return {**message, "content": _text(content, f"{where}.content")}


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
