"""Reads a JSON object as its characters come: where each top-level value begins and ends. Knows no tools."""

from __future__ import annotations

from dataclasses import dataclass

_OPENING, _CLOSING = "{[", "}]"


@dataclass
class Span:
    """A value's place in the text; `end` is None while it is being written."""

    start: int
    end: int | None = None


class ObjectScanner:
    """Follows one object that begins at `start` of a growing text.

    `spans` has the values of the object's keys as far as they are known, `end` the place behind its last brace.
    Text that is no JSON is not complained of here: whoever reads a value finds out.
    """

    def __init__(self, start: int) -> None:
        self.spans: dict[str, Span] = {}
        self.end: int | None = None
        self._at = start
        self._depth = 0
        self._string: int | None = None  # where the string that is open began
        self._escaped = False
        self._key = ""
        self._value: Span | None = None
        self._expects_value = False

    @property
    def seen(self) -> int:
        """How far the text has been read."""
        return self._at

    def feed(self, text: str) -> None:
        """`text` is the whole of it so far; reads on from where the last call ended."""
        while self._at < len(text) and self.end is None:
            char = text[self._at]
            if self._string is not None:
                self._in_string(char, text)
            elif char == '"':
                self._string = self._at
                self._begin_value()
            elif char in _OPENING:
                self._depth += 1
                if self._depth == 2:
                    self._begin_value()
            elif char in _CLOSING:
                self._close()
            elif self._depth == 1:
                self._between(char)
            self._at += 1

    def _in_string(self, char: str, text: str) -> None:
        if self._escaped:
            self._escaped = False
        elif char == "\\":
            self._escaped = True
        elif char == '"':
            assert self._string is not None
            if self._depth == 1 and not self._expects_value:
                self._key = text[self._string + 1 : self._at]
            elif self._depth == 1:
                self._end_value(self._at + 1)
            self._string = None

    def _between(self, char: str) -> None:
        """A character of the object itself, outside of strings and nested values."""
        if char == ":":
            self._expects_value = True
        elif char == ",":
            self._end_value(self._at)
            self._expects_value, self._value = False, None
        elif not char.isspace():
            self._begin_value()

    def _close(self) -> None:
        self._depth -= 1
        if self._depth == 1:
            self._end_value(self._at + 1)
        elif self._depth <= 0:
            self._end_value(self._at)
            self.end = self._at + 1

    def _begin_value(self) -> None:
        if self._expects_value and self._value is None:
            self._value = self.spans[self._key] = Span(self._at)

    def _end_value(self, end: int) -> None:
        if self._value is not None and self._value.end is None:
            self._value.end = end
