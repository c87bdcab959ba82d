"""Request bodies of the Messages API, how its blocks become chat messages, and the controls of the engine.

A field works, is neutral (a label or a hint that never changes an answer), or is refused by name. Source: Anthropic's
API reference (Messages, Count tokens), version 2023-06-01.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from octavo.base.errors import InvalidRequestError, UnsupportedError
from octavo.base.sampling import SamplingParams
from octavo.server.http import validated

_NOT_DONE = ("container", "context_management", "mcp_servers", "output_config", "output_format", "speed")


class Tool(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)
    name: str
    input_schema: dict[str, Any]
    description: str | None = None
    type: str | None = None
    cache_control: dict[str, Any] | None = None  # neutral: prefixes are cached anyway


class MessagesBody(BaseModel):
    """The fields that both routes share."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)
    messages: list[dict[str, Any]]
    model: str | None = None
    system: str | list[dict[str, Any]] | None = None
    tools: list[Tool] | None = None
    tool_choice: dict[str, Any] | None = None
    thinking: dict[str, Any] | None = None
    cache_control: dict[str, Any] | None = None

    @property
    def thinks(self) -> bool | None:
        """Whether reasoning is asked for; None leaves it to the model."""
        thinking = self.thinking or {}
        kind = thinking.get("type")
        if thinking.get("budget_tokens") is not None:
            raise UnsupportedError("thinking.budget_tokens cannot be kept by this server: use the type adaptive.",
                                   param="thinking.budget_tokens")  # fmt: skip
        if kind not in (None, "enabled", "disabled", "adaptive"):
            raise InvalidRequestError(f"thinking.type must be enabled, adaptive or disabled, got {kind!r}.",
                                      param="thinking.type")  # fmt: skip
        return None if kind in (None, "adaptive") else kind == "enabled"

    @property
    def first_call_only(self) -> bool:
        return (self.tool_choice or {}).get("disable_parallel_tool_use") is True

    def offered_tools(self) -> list[dict[str, Any]] | None:
        """The tools as chat templates take them; None where none may be called."""
        kind = (self.tool_choice or {"type": "auto"}).get("type")
        if kind in ("any", "tool"):
            raise UnsupportedError(f"tool_choice {kind!r} is not supported by this server: use auto or none.",
                                   param="tool_choice")  # fmt: skip
        if kind not in ("auto", "none"):
            raise InvalidRequestError("tool_choice.type must be auto, any, tool or none.", param="tool_choice.type")
        for at, tool in enumerate(self.tools or ()):
            if tool.type not in (None, "custom"):
                raise UnsupportedError(f"tools[{at}].type {tool.type!r} runs at Anthropic: give tools of your own.",
                                       param=f"tools[{at}].type")  # fmt: skip
        if kind == "none" or not self.tools:
            return None
        return [_function(tool) for tool in self.tools]


class CreateBody(MessagesBody):
    """POST /v1/messages."""

    max_tokens: int
    stream: bool = False
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    # neutral: labels
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    inference_geo: str | None = None

    def sampling(self, defaults: Mapping[str, Any]) -> SamplingParams:
        given = {"temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k}
        values = dict(defaults) | {name: value for name, value in given.items() if value is not None}
        if self.max_tokens < 1:
            raise InvalidRequestError("max_tokens: must be at least 1.", param="max_tokens")
        stop = [text for text in self.stop_sequences or () if text.strip()]
        if len(stop) != len(self.stop_sequences or ()):
            raise InvalidRequestError("stop_sequences: each must have other than white space.", param="stop_sequences")
        return SamplingParams(**{**values, "max_tokens": self.max_tokens, "stop": stop})


def create_body(body: dict[str, Any]) -> CreateBody:
    return validated(CreateBody, _asked(body))


def count_body(body: dict[str, Any]) -> MessagesBody:
    return validated(MessagesBody, _asked(body))


def _asked(body: dict[str, Any]) -> dict[str, Any]:
    for name in _NOT_DONE:
        if body.get(name):
            raise UnsupportedError(f"{name} is not supported by this server: leave it out.", param=name)
    return {name: value for name, value in body.items() if value is not None and name not in _NOT_DONE}


def _function(tool: Tool) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description or "", "parameters": tool.input_schema}
    return {"type": "function", "function": function}


# ---------------------------------------------------------------- blocks to chat messages


def chat_messages(body: MessagesBody) -> tuple[list[dict[str, Any]], bool]:
    """The conversation as chat templates take it, and whether the last message is the beginning of the answer.

    Raises:
        InvalidRequestError: a role or a block that is none; `param` is its path.
        UnsupportedError: a block that this server does not read, by its type.
    """
    messages = list(_system(body.system))
    for at, message in enumerate(body.messages):
        role, where = message.get("role"), f"messages.{at}"
        if role not in ("user", "assistant"):
            raise InvalidRequestError(f"{where}.role: must be user or assistant, got {role!r}.", param=f"{where}.role")
        blocks = _blocks(message.get("content"), f"{where}.content")
        messages += _user(blocks, where) if role == "user" else [_assistant(blocks, where)]
    if not body.messages:
        raise InvalidRequestError("messages: at least one message is required.", param="messages")
    return messages, body.messages[-1]["role"] == "assistant"


def _system(system: str | Sequence[Mapping[str, Any]] | None) -> Iterator[dict[str, Any]]:
    if system:
        text = "\n".join(_text(block, "system") for block in _blocks(system, "system"))
        yield {"role": "system", "content": text}


def _blocks(content: object, where: str) -> list[Mapping[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if isinstance(content, list) and all(isinstance(block, Mapping) for block in content):
        return content
    raise InvalidRequestError(f"{where}: must be a text or a list of blocks.", param=where)


def _text(block: Mapping[str, Any], where: str) -> str:
    if block.get("type") != "text":
        raise UnsupportedError(
            f"{where}: blocks of the type {block.get('type')!r} are not supported by this server.", param=where
        )
    text = block.get("text")
    if not isinstance(text, str):
        raise InvalidRequestError(f"{where}.text: must be a text.", param=where)
    return text


def _user(blocks: Sequence[Mapping[str, Any]], where: str) -> Iterator[dict[str, Any]]:
    """Results of tools first, each a message of its own, then what the user says."""
    for block in blocks:
        if block.get("type") == "tool_result":
            inner = block.get("content") or ""
            text = "\n".join(_text(part, f"{where}.content.tool_result") for part in _blocks(inner, where))
            yield {"role": "tool", "tool_call_id": block.get("tool_use_id"), "content": text}
    said = [_text(block, f"{where}.content") for block in blocks if block.get("type") != "tool_result"]
    if said:
        yield {"role": "user", "content": "\n".join(said)}


def _assistant(blocks: Sequence[Mapping[str, Any]], where: str) -> dict[str, Any]:
    said, thoughts, calls = [], [], []
    for block in blocks:
        kind = block.get("type")
        if kind == "thinking":
            thoughts.append(str(block.get("thinking", "")))
        elif kind == "tool_use":
            function = {"name": block.get("name"), "arguments": block.get("input") or {}}
            calls.append({"id": block.get("id"), "type": "function", "function": function})
        elif kind != "redacted_thinking":
            said.append(_text(block, f"{where}.content"))
    message: dict[str, Any] = {"role": "assistant", "content": "\n".join(said)}
    if thoughts:
        message["reasoning_content"] = "\n".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    return message
