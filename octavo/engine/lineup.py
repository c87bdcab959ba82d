"""Lineup: the running rows that decode, one token a step each, and what is the same for all their steps.

Made anew when rows come or go; while none does, a step costs the scheduler an append per row. Knows no pages.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from octavo.base.types import CompletionName
from octavo.engine.sequence import Sequence


@dataclass(frozen=True, eq=False, slots=True)
class Lineup:
    """`plain` rows yield a token and nothing else, `detailed` ones log-probabilities with it. `slots` are those of
    both, in this order; `names` belong to the plain ones. Tokens outside `ends` end none of them."""

    plain: tuple[Sequence, ...] = ()
    detailed: tuple[Sequence, ...] = ()
    slots: tuple[int, ...] = ()
    names: tuple[CompletionName, ...] = ()
    ends: frozenset[int] = frozenset()

    @classmethod
    def of(cls, decoding: Iterable[Sequence]) -> Lineup:
        plain: list[Sequence] = []
        detailed: list[Sequence] = []
        for seq in decoding:
            (plain if seq.request.sampling.logprobs is None else detailed).append(seq)
        return cls(
            plain=tuple(plain),
            detailed=tuple(detailed),
            slots=tuple([seq.slot for seq in plain + detailed]),
            names=tuple([seq.name for seq in plain]),
            ends=frozenset().union(*[seq.ends for seq in plain]),
        )

    def __len__(self) -> int:
        return len(self.slots)

    @property
    def rows(self) -> tuple[Sequence, ...]:
        """All of them, in the order of `slots`."""
        return self.plain + self.detailed
