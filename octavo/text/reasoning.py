"""Reasoning in the text of a model: what it thinks before it answers, told from the answer by a pair of tags.

Knows the tags and where the prompt left off; which tags a model uses is read from its chat template.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["reasoning", "content"]


@dataclass(frozen=True)
class ReasoningFormat:
    """The tags around a thought. `ended_by` are marks that end it without its own tag (and stay in the answer);
    `drop_stray_end` hides closing tags that nothing opened."""

    begin: str
    end: str
    ended_by: tuple[str, ...] = ()
    drop_stray_end: bool = False

    def open_after(self, prompt: str, begun: str = "") -> bool:
        """Whether a prompt leaves the model inside a thought: its end, or the answer that was `begun` in it, opens one.
        Tags that somebody else has written mean nothing."""
        if begun:
            return begun.rfind(self.begin) > begun.rfind(self.end)
        return prompt.rstrip().endswith(self.begin)


THINK = ReasoningFormat("<think>", "</think>", ended_by=("<tool_call>",))
MISTRAL = ReasoningFormat("[THINK]", "[/THINK]", drop_stray_end=True)


def reasoning_of_template(source: str) -> ReasoningFormat | None:
    """The tags that a chat template shows; None if its model does not think aloud."""
    return next((format for format in (THINK, MISTRAL) if format.end in source), None)


class ReasoningSplitter:
    """Feed it pieces of an answer, then call `finish` once. Text that may yet become a tag is held back."""

    def __init__(self, format: ReasoningFormat, *, inside: bool) -> None:
        self._format = format
        self._inside = inside
        self._over = False
        self._text = ""
        self._begun = False  # something but white space and the opening tag has been seen

    def feed(self, text: str) -> list[tuple[Kind, str]]:
        """(kind, text) of all that is certain now."""
        return self._advance(text, final=False)

    def finish(self) -> list[tuple[Kind, str]]:
        return self._advance("", final=True)

    def _advance(self, text: str, *, final: bool) -> list[tuple[Kind, str]]:
        self._text += text
        out: list[tuple[Kind, str]] = []
        while self._text:
            at, mark = self._next_mark()
            if mark is None:
                keep = 0 if final else self._undecided()
                self._emit(out, self._text[: len(self._text) - keep])
                self._text = self._text[len(self._text) - keep :]
                break
            before, self._text = self._text[:at], self._text[at + len(mark) :]
            if mark == self._format.begin and self._inside and not before.strip():
                continue  # the model repeats the tag that its prompt ended with
            self._emit(out, before)
            self._pass(out, mark)
        return out

    def _pass(self, out: list[tuple[Kind, str]], mark: str) -> None:
        """Goes over a mark into what it begins."""
        if self._inside:
            self._inside, self._over = False, True
            if mark != self._format.end:
                self._emit(out, mark)
        elif mark == self._format.begin and not self._over:
            self._inside = True
        elif not (mark == self._format.end and self._format.drop_stray_end):
            self._emit(out, mark)

    def _marks(self) -> tuple[str, ...]:
        if not self._inside:
            wanted = () if self._over else (self._format.begin,)
            return (*wanted, self._format.end) if self._format.drop_stray_end else wanted
        opening = () if self._begun else (self._format.begin,)
        return (self._format.end, *self._format.ended_by, *opening)

    def _next_mark(self) -> tuple[int, str | None]:
        found = [(at, mark) for mark in self._marks() if (at := self._text.find(mark)) >= 0]
        return min(found) if found else (-1, None)

    def _undecided(self) -> int:
        marks = self._marks()
        longest = max(map(len, marks), default=1)
        lengths = range(min(longest - 1, len(self._text)), 0, -1)
        keep = next((n for n in lengths if any(mark.startswith(self._text[-n:]) for mark in marks)), 0)
        if self._inside and not self._begun and not self._text[: len(self._text) - keep].strip():
            return len(self._text)  # only white space so far: an opening tag may follow
        return keep

    def _emit(self, out: list[tuple[Kind, str]], text: str) -> None:
        if not text:
            return
        self._begun = True
        kind: Kind = "reasoning" if self._inside else "content"
        if out and out[-1][0] == kind:
            out[-1] = (kind, out[-1][1] + text)
        else:
            out.append((kind, text))
