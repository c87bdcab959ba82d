"""CallParser: the text of one answer, as it comes, into words and calls. Knows the marks; notations are in `bodies`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from octavo.text.calls.bodies import Body, Calls
from octavo.text.calls.events import Event, Said
from octavo.text.calls.formats import CallFormat


class CallParser:
    """Feed it pieces of an answer, then call `finish` once.

    Text that may yet become a mark is held back. White space alone, between calls or around them, is not shown.
    """

    def __init__(self, format: CallFormat, tools: Sequence[Mapping[str, Any]] = ()) -> None:
        self._format = format
        self._schemas = dict(map(_schema, tools))
        self._calls = Calls()
        self._body: Body | None = None
        self._text = ""
        self._space = ""  # white space that is shown only if words follow or precede
        self._spoke = False

    @property
    def num_calls(self) -> int:
        return self._calls.count

    def feed(self, text: str) -> list[Event]:
        """What is certain after this piece."""
        return self._advance(text, final=False)

    def finish(self) -> list[Event]:
        """The rest, at the end of the answer."""
        events = self._advance("", final=True)
        if self._space and self._spoke and not self._calls.count:
            events.append(Said(self._space))
        return events

    def _advance(self, text: str, *, final: bool) -> list[Event]:
        events: list[Event] = []
        while True:
            if self._body is not None:
                inside, rest = self._body.feed(text, final=final)
                for event in inside:
                    events += self._said(event.text) if isinstance(event, Said) else [event]
                if rest is None:
                    return events
                self._body, text = None, rest
                continue
            self._text += text
            text = ""
            words, opened = self._next_opening(final=final)
            events += self._said(words)
            if opened is None:
                return events
            self._spoke = False  # what comes after a call begins anew
            self._space = ""
            text, self._text = self._text, ""

    def _next_opening(self, *, final: bool) -> tuple[str, bool | None]:
        """The words before the next opening mark, and whether there is one; sets the body then."""
        words = ""
        while True:
            at, mark = self._earliest(words)
            if mark is None:
                keep = 0 if final else self._undecided()
                words += self._text[: len(self._text) - keep]
                self._text = self._text[len(self._text) - keep :]
                return words, None
            words += self._text[:at]
            self._text = self._text[at + len(mark) :]
            if mark in self._format.noise:
                continue
            bare = mark == self._format.bare
            if bare:
                self._text = mark + self._text
            self._body = self._format.body(self._calls, "" if bare else mark, self._format.ends, self._schemas)
            return words, True

    def _earliest(self, words: str) -> tuple[int, str | None]:
        found = [
            (at, -len(mark), mark)
            for mark in (*self._format.opening, *self._format.noise)
            if (at := self._text.find(mark)) >= 0
        ]
        if self._format.bare and (at := self._bare_at(words)) >= 0:
            found.append((at, 0, self._format.bare))
        if not found:
            return -1, None
        at, _, mark = min(found)
        return at, mark

    def _bare_at(self, words: str) -> int:
        at = self._text.find(self._format.bare)
        before = words + self._text[: max(at, 0)]
        if self._format.bare_first and (self._spoke or self._calls.count or before.strip()):
            return -1
        return at

    def _undecided(self) -> int:
        """How many characters at the end may be the beginning of a mark."""
        marks = (*self._format.opening, *self._format.noise, self._format.bare)
        longest = max(map(len, marks))
        for length in range(min(longest - 1, len(self._text)), 0, -1):
            tail = self._text[-length:]
            if any(mark.startswith(tail) for mark in marks if len(mark) > length):
                return length
        return 0

    def _said(self, text: str) -> list[Event]:
        """Words as events; white space before the first of them waits for it, and is dropped behind a call."""
        if not text:
            return []
        if not self._spoke:
            text = text.lstrip() if self._calls.count else self._space + text
            if not text.strip():
                self._space = text
                return []
        self._space, self._spoke = "", True
        return [Said(text)]


def _schema(tool: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    function = tool["function"]
    return function["name"], function.get("parameters") or {}
