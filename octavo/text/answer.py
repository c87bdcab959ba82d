"""AnswerReader: one completion's text, as it comes, into reasoning, words and tool calls.

Knows which formats a model uses (from its chat template) and no dialect: what becomes of the parts is theirs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from octavo.base.errors import ConfigError
from octavo.text.calls import FORMATS, CallArguments, CallBegin, CallFormat, CallParser, Event, Said, format_of_template
from octavo.text.reasoning import MISTRAL, THINK, ReasoningFormat, ReasoningSplitter, reasoning_of_template

T = TypeVar("T")
REASONING_FORMATS = {"think": THINK, "mistral": MISTRAL}
# vLLM's names of parsers that mean one of these formats.
REASONING_ALIASES = dict.fromkeys(
    ("deepseek_r1", "deepseek_v3", "qwen3", "glm45", "glm47", "nemotron_v3", "olmo3"), "think"
)
CALL_ALIASES = {
    "glm45": "glm4",
    "glm47": "glm4",
    "granite-20b-fc": "granite_20b",
    "hunyuan_a13b": "jamba",
    "internlm": "internlm2",
    "llama4_pythonic": "pythonic",
    "phi4_mini_json": "phi4_mini",
    "qwen3_json": "hermes",
    "qwen3_xml": "qwen3_coder",
}


@dataclass(frozen=True, slots=True)
class Thought:
    """Reasoning, which is not part of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Words:
    """The answer's own text."""

    text: str


Part = Thought | Words | CallBegin | CallArguments


def arguments_of(text: str) -> dict[str, Any]:
    """The arguments of a call, from their JSON text; empty where that was cut off."""
    try:
        value = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


@dataclass(frozen=True)
class AnswerFormats:
    """How a model marks its reasoning and its tool calls; None where it does not."""

    reasoning: ReasoningFormat | None
    calls: CallFormat | None

    @classmethod
    def of_template(cls, source: str, *, reasoning: str = "auto", calls: str = "auto") -> AnswerFormats:
        """What a chat template shows, unless a name (or "none") says otherwise.

        Raises:
            ConfigError: a name that no format has.
        """
        return cls(
            _chosen(reasoning_parser(reasoning), REASONING_FORMATS, reasoning_of_template(source)),
            _chosen(tool_call_parser(calls), FORMATS, format_of_template(source)),
        )

    def reader(self, prompt: str, tools: Sequence[Mapping[str, Any]] | None, *, begun: str = "") -> AnswerReader:
        """A reader for one answer to a rendered prompt (its last few characters will do). Calls are looked for only if
        there are tools; `begun` is the part of the answer that the prompt has already."""
        return AnswerReader(self, prompt, tools, begun)


PLAIN = AnswerFormats(None, None)  # of a model, or a request, whose text is nothing but text


def reasoning_parser(name: str) -> str:
    """The name of a reasoning format, "auto" or "none", from one of its names; see `tool_call_parser`."""
    return _checked("reasoning parser", name, REASONING_FORMATS, REASONING_ALIASES)


def tool_call_parser(name: str) -> str:
    """
    Raises:
        ConfigError: a name that no format has; it lists those there are.
    """
    return _checked("tool-call parser", name, FORMATS, CALL_ALIASES)


def _checked(what: str, name: str, known: Mapping[str, object], aliases: Mapping[str, str]) -> str:
    name = aliases.get(name, name)
    if name not in ("auto", "none") and name not in known:
        raise ConfigError(f"There is no {what} {name!r}: choose one of auto, none, {', '.join(sorted(known))}.")
    return name


def _chosen(name: str, known: Mapping[str, T], found: T | None) -> T | None:
    return found if name == "auto" else None if name == "none" else known[name]


class AnswerReader:
    """Feed it the pieces of one answer, the last one as such. `marks` are the texts that it looks for: if they are
    special tokens, they must be part of what it is fed."""

    def __init__(
        self, formats: AnswerFormats, prompt: str, tools: Sequence[Mapping[str, Any]] | None, begun: str
    ) -> None:
        thoughts = formats.reasoning
        self._splitter = ReasoningSplitter(thoughts, inside=thoughts.open_after(prompt, begun)) if thoughts else None
        self._parser = CallParser(formats.calls, tools) if tools and formats.calls else None
        tags = (thoughts.begin, thoughts.end) if thoughts else ()
        self.marks: tuple[str, ...] = (*tags, *(formats.calls.marks if tools and formats.calls else ()))

    @property
    def num_calls(self) -> int:
        return self._parser.num_calls if self._parser else 0

    def feed(self, text: str, *, last: bool = False) -> list[Part]:
        """What is certain after this piece; all of the rest after the last one."""
        if self._splitter is None:
            parts = self._content(text)
        else:
            parts = [part for kind, piece in self._splitter.feed(text) for part in self._parts(kind, piece)]
        return parts + self._rest() if last else parts

    def _rest(self) -> list[Part]:
        parts: list[Part] = []
        if self._splitter is not None:
            parts += [part for kind, piece in self._splitter.finish() for part in self._parts(kind, piece)]
        if self._parser is not None:
            parts += [_part(event) for event in self._parser.finish()]
        return parts

    def _parts(self, kind: str, text: str) -> list[Part]:
        return [Thought(text)] if kind == "reasoning" else self._content(text)

    def _content(self, text: str) -> list[Part]:
        if self._parser is None:
            return [Words(text)] if text else []
        return [_part(event) for event in self._parser.feed(text)]


def _part(event: Event) -> Part:
    return Words(event.text) if isinstance(event, Said) else event
