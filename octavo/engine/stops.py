"""StopMatcher: stop strings in a text that arrives in pieces, whatever the pieces.

Holds back the least text that may yet become a stop string. Knows no tokens.
"""

from __future__ import annotations

from collections.abc import Sequence


class StopMatcher:
    """Finds the stop string that is complete first; of two complete at the same character, the one named first.

    With `include`, the stop string is part of the text.
    """

    def __init__(self, stops: Sequence[str], *, include: bool = False) -> None:
        self._stops = tuple(stops)
        self._include = include
        self._longest = max(map(len, self._stops), default=0)
        self._held = ""
        self._blind = 0  # a stop string may begin, but not end, in this many first characters of what is held

    def push(self, text: str, *, armed: bool = True) -> tuple[str, str | None]:
        """Takes the next text; returns what can be shown, and the stop string if one is complete.

        With `armed` off, stop strings may begin in `text` but are ignored if they are complete within it.
        """
        held = self._held + text
        blind = self._blind if armed else len(held)
        found = self._find(held, blind)
        if found is not None:
            end, stop = found
            self._held, self._blind = "", 0
            return held[: end if self._include else end - len(stop)], stop
        keep = self._may_begin(held)
        shown = len(held) - keep
        self._held, self._blind = held[shown:], max(0, blind - shown)
        return held[:shown], None

    def flush(self) -> str:
        """The end of the text: what was held back is no stop string."""
        held, self._held, self._blind = self._held, "", 0
        return held

    def _find(self, text: str, blind: int) -> tuple[int, str] | None:
        """End of the first complete stop string that ends after `blind` characters, and the string."""
        best: tuple[int, str] | None = None
        for stop in self._stops:
            at = text.find(stop, max(0, blind - len(stop) + 1))
            if at >= 0 and (best is None or at + len(stop) < best[0]):
                best = (at + len(stop), stop)
        return best

    def _may_begin(self, text: str) -> int:
        """Length of the longest end of `text` that a stop string begins with."""
        for length in range(min(len(text), self._longest - 1), 0, -1):
            end = text[-length:]
            if any(len(stop) > length and stop.startswith(end) for stop in self._stops):
                return length
        return 0
