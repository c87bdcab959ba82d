"""One choice of a chat completion: its text told apart into reasoning, content and tool calls, in OpenAI's shape."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from octavo.base.types import FinishReason
from octavo.text.answer import AnswerReader, Part, Thought, Words
from octavo.text.calls import CallBegin


class ChoiceWriter:
    """Turns the text of one choice into the fields of deltas, and at its end into a message.

    `first_call_only` drops what follows the first call (parallel_tool_calls: false); `hide_reasoning` drops thoughts.
    """

    def __init__(self, reader: AnswerReader, *, first_call_only: bool = False, hide_reasoning: bool = False) -> None:
        self._reader = reader
        self._first_call_only = first_call_only
        self._hide_reasoning = hide_reasoning
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[dict[str, Any]] = []

    @property
    def marks(self) -> tuple[str, ...]:
        """The texts that must not be hidden from it."""
        return self._reader.marks

    def delta(self, text: str, *, last: bool) -> dict[str, Any]:
        """The fields of `delta` that this piece adds; none where all of it is held back."""
        return self._fields(self._reader.feed(text, last=last))

    def finish_reason(self, reason: FinishReason | None) -> str | None:
        return "tool_calls" if reason == "stop" and self._calls else reason

    def message(self) -> dict[str, Any]:
        """The whole message. Where there are calls and nothing is said, content is null, as OpenAI has it."""
        content = "".join(self._content)
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        if self._reasoning:
            message |= _reasoning_fields("".join(self._reasoning))
        if self._calls:
            message |= {"content": content or None, "tool_calls": self._calls}
        return message

    def _fields(self, parts: Iterable[Part]) -> dict[str, Any]:
        said, thought = [], []
        calls: dict[int, dict[str, Any]] = {}
        for part in parts:
            if isinstance(part, Words):
                said.append(part.text)
            elif isinstance(part, Thought):
                thought.append(part.text)
            elif part.index == 0 or not self._first_call_only:
                self._call(calls, part)
        fields: dict[str, Any] = {}
        if content := "".join(said):
            self._content.append(content)
            fields["content"] = content
        if (reasoning := "".join(thought)) and not self._hide_reasoning:
            self._reasoning.append(reasoning)
            fields |= _reasoning_fields(reasoning)
        if calls:
            fields["tool_calls"] = list(calls.values())
        return fields

    def _call(self, shown: dict[int, dict[str, Any]], part: Part) -> None:
        """Adds a part of a call to the message and to the delta's calls."""
        if isinstance(part, CallBegin):
            function = {"name": part.name, "arguments": ""}
            call = {"id": f"call_{uuid.uuid4().hex[:24]}", "type": "function", "function": function}
            self._calls.append(call)
            shown[part.index] = {"index": part.index, **call, "function": dict(function)}
            return
        assert not isinstance(part, Words | Thought)
        self._calls[part.index]["function"]["arguments"] += part.text
        entry = shown.setdefault(part.index, {"index": part.index, "function": {"arguments": ""}})
        entry["function"]["arguments"] += part.text


def _reasoning_fields(text: str) -> dict[str, str]:
    """Under both of the names that clients read: vLLM's and OpenRouter's, and DeepSeek's."""
    return {"reasoning": text, "reasoning_content": text}
