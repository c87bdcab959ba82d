"""A step while it is the scheduler's: a plan in the making, and whom a plan in flight is for. Knows no pages."""

from __future__ import annotations

from dataclasses import dataclass, field

from octavo.base.types import PageCopy, RowInit, RowStep
from octavo.engine.lineup import Lineup
from octavo.engine.sequence import Sequence

Pages = tuple[tuple[int, ...], ...]


@dataclass(slots=True)
class Draft:
    """A plan in the making. `budget` tokens are left to give, and `samples` positions whose logits may be wanted."""

    budget: int
    samples: int
    steps: list[tuple[Sequence, RowStep]] = field(default_factory=list)
    decode_pages: list[tuple[int, Pages]] = field(default_factory=list)
    new_rows: list[RowInit] = field(default_factory=list)
    copies: list[PageCopy] = field(default_factory=list)
    preempted: bool = False


@dataclass(slots=True)
class InFlight:
    """Whom a plan is for. `thinned`: some of them have been ended since."""

    lineup: Lineup
    steps: list[tuple[Sequence, RowStep]]
    thinned: bool = False
