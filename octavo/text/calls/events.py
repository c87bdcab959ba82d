"""What a parser makes of a model's text: words for the reader, and calls of tools, piece by piece."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Said:
    """Text for the reader."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegin:
    """Call number `index` of this answer names its tool."""

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """More of the arguments of call `index`: pieces of one JSON object."""

    index: int
    text: str


Event = Said | CallBegin | CallArguments
