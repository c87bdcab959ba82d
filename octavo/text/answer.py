"""AnswerReader: one completion's text, as it comes, into reasoning, words and tool calls.

Knows which formats a model uses (from its chat template) and no dialect: what becomes of the parts is theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from octavo.base.errors import InvalidRequestError
from octavo.text.calls import FORMATS, CallArguments, CallBegin, CallFormat, CallParser, Event, Said, format_of_template
from octavo.text.reasoning import MISTRAL, THINK, ReasoningFormat, ReasoningSplitter, reasoning_of_template

T = TypeVar("T")
REASONING_FORMATS = {"think": THINK, "mistral": MISTRAL}


@dataclass(frozen=True, slots=True)
class Thought:
    """Reasoning, which is not part of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Words:
    """The answer's own text."""

    text: str


Part = Thought | Words | CallBegin | CallArguments


@dataclass(frozen=True)
class AnswerFormats:
    """How a model marks its reasoning and its tool calls; None where it does not."""

    reasoning: ReasoningFormat | None
    calls: CallFormat | None

    @classmethod
    def of_template(cls, source: str, *, reasoning: str = "auto", calls: str = "auto") -> AnswerFormats:
        """What a chat template shows, unless a name (or "none") says otherwise.

        Raises:
            InvalidRequestError: a name that no format has.
        """
        return cls(
            _chosen("reasoning parser", reasoning, REASONING_FORMATS, reasoning_of_template(source)),
            _chosen("tool-call parser", calls, FORMATS, format_of_template(source)),
        )

    def reader(self, prompt: str, tools: Sequence[Mapping[str, Any]] | None) -> AnswerReader:
        """A reader for one answer to a rendered prompt (its last few hundred characters will do). Calls are looked for
        only if there are tools."""
        return AnswerReader(self, prompt, tools)


def _chosen(what: str, name: str, known: Mapping[str, T], found: T | None) -> T | None:
    if name == "auto":
        return found
    if name == "none":
        return None
    if name not in known:
        raise InvalidRequestError(f"No {what} {name!r}: choose one of auto, none, {', '.join(sorted(known))}.")
    return known[name]


class AnswerReader:
    """Feed it the pieces of one answer, then call `finish` once."""

    def __init__(self, formats: AnswerFormats, prompt: str, tools: Sequence[Mapping[str, Any]] | None) -> None:
        thoughts = formats.reasoning
        self._splitter = ReasoningSplitter(thoughts, inside=thoughts.open_after(prompt)) if thoughts else None
        self._parser = CallParser(formats.calls, tools) if tools and formats.calls else None

    @property
    def num_calls(self) -> int:
        return self._parser.num_calls if self._parser else 0

    def feed(self, text: str) -> list[Part]:
        """What is certain after this piece."""
        if self._splitter is None:
            return self._content(text)
        return [part for kind, piece in self._splitter.feed(text) for part in self._parts(kind, piece)]

    def finish(self) -> list[Part]:
        """The rest, at the end of the answer."""
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
