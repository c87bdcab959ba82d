"""Row slots: what the runner knows of each sequence, as arrays by slot, so that a step picks its rows at once.

A lineup is the part of it that one decode step after the other needs, in the order of the step: while the same rows
advance, a step adds one to the positions and no row is looked at alone. Knows no backend and no order of effects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from octavo.backends.ops import I32, SampleRows
from octavo.base.sampling import SamplingParams
from octavo.base.types import EngineLimits, RowInit
from octavo.runner.controls import Controls

_SEED_MASK = (1 << 64) - 1
_SPARE_PAGES = 8  # columns of a lineup's tables beyond what its rows have: room to grow without copying them
Index = npt.NDArray[np.intp]


@dataclass
class Row:
    """What of a sequence is no array."""

    num_prompt: int
    sampling: SamplingParams
    controls: Controls
    num_pages: list[int]


class Rows:
    """All row slots. `tokens[slot, :lengths[slot]]` is a row's record; `tables[g][slot]` its pages of KV group g, -1
    where there is none."""

    def __init__(self, limits: EngineLimits) -> None:
        self._limits = limits
        slots, pages = limits.max_num_seqs, -(-limits.max_model_len // limits.page_size)
        # one token may be drawn beyond the last that is computed; memory is taken as rows grow into it
        self.tokens: I32 = np.empty((slots, limits.max_model_len + 1), np.int32)
        self.lengths: I32 = np.zeros(slots, np.int32)
        self.tables: tuple[I32, ...] = tuple(np.full((slots, pages), -1, np.int32) for _ in limits.groups)
        self._rows: dict[int, Row] = {}
        self._temperature = np.zeros(slots, np.float32)
        self._top_k = np.zeros(slots, np.int32)
        self._top_p = np.ones(slots, np.float32)
        self._min_p = np.zeros(slots, np.float32)
        self._seeds = np.zeros(slots, np.uint64)

    def __getitem__(self, slot: int) -> Row:
        return self._rows[slot]

    def enter(self, init: RowInit) -> None:
        """A row takes a slot."""
        slot, sampling = init.slot, init.sampling
        controls = Controls(init, self._limits.vocab_size)
        self._rows[slot] = Row(init.num_prompt, sampling, controls, [0] * len(self.tables))
        self.tokens[slot, : len(init.token_ids)] = init.token_ids
        self.lengths[slot] = len(init.token_ids)
        for table in self.tables:
            table[slot].fill(-1)
        self._temperature[slot] = 0.0 if sampling.greedy else sampling.temperature
        self._top_k[slot] = min(sampling.top_k, 2**31 - 1)
        self._top_p[slot] = sampling.top_p
        self._min_p[slot] = sampling.min_p
        self._seeds[slot] = init.seed & _SEED_MASK

    def leave(self, slot: int) -> None:
        self._rows.pop(slot, None)

    def clear(self) -> None:
        self._rows.clear()

    def record(self, slot: int) -> I32:
        """The tokens of a row, a view."""
        return self.tokens[slot, : self.lengths[slot]]

    def append(self, slot: int, tokens: Sequence[int], *, known: bool = True) -> None:
        """Adds tokens to a row's record; with `known` off they are there, but the record does not yet count them."""
        length = int(self.lengths[slot])
        self.tokens[slot, length : length + len(tokens)] = tokens
        if known:
            self.lengths[slot] = length + len(tokens)

    def add_pages(self, slot: int, new_pages: Sequence[Sequence[int]]) -> None:
        """Appends pages to the tables of a row, by KV group."""
        row = self._rows[slot]
        for group, pages in enumerate(new_pages):
            if pages:
                at = row.num_pages[group]
                self.tables[group][slot, at : at + len(pages)] = pages
                row.num_pages[group] = at + len(pages)

    def draws(self, slots: Index, positions: I32) -> SampleRows:
        """For draws of these slots (repeated where a row draws several tokens) at these positions."""
        return SampleRows(
            temperature=self._temperature[slots],
            top_k=self._top_k[slots],
            top_p=self._top_p[slots],
            min_p=self._min_p[slots],
            seeds=self._seeds[slots],
            positions=positions,
        )

    def hide_out_of_reach(self, group: int, table: I32, starts: I32) -> None:
        """Takes the pages that are out of a window's reach out of a table [R, P] whose rows begin at `starts`: they
        may have new owners."""
        window = self._limits.groups[group].window
        if window is not None:
            first = (starts - (window - 1)) // self._limits.page_size
            table[np.arange(table.shape[1]) < first[:, None]] = -1

    def tables_of(self, slots: Index, starts: I32, width: int) -> tuple[I32, ...]:
        """The tables [R, width] of rows that begin at `starts`, per group, without the pages out of reach."""
        found = []
        for group, table in enumerate(self.tables):
            mine = np.ascontiguousarray(table[slots, :width])
            self.hide_out_of_reach(group, mine, starts)
            found.append(mine)
        return tuple(found)


@dataclass
class Lineup:
    """Rows that decode together: `token_ids` at `positions` are computed next. `special` are the places and slots of
    those whose logits are changed or reported before or after the draw."""

    slots: tuple[int, ...]
    index: Index
    token_ids: I32
    positions: I32
    tables: tuple[I32, ...]
    draws: SampleRows
    special: tuple[tuple[int, int], ...] = ()
    places: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Rows, slots: tuple[int, ...], page_size: int) -> Lineup:
        index = np.array(slots, np.intp)
        positions = rows.lengths[index] - np.int32(1)
        pages = int(positions.max()) // page_size + 1 if slots else 0
        special = [
            (i, slot)
            for i, slot in enumerate(slots)
            if rows[slot].controls.active or rows[slot].sampling.logprobs is not None
        ]
        return cls(
            slots=slots,
            index=index,
            token_ids=rows.tokens[index, positions],
            positions=positions,
            tables=rows.tables_of(index, positions, pages + _SPARE_PAGES),
            draws=rows.draws(index, positions),
            special=tuple(special),
            places={slot: i for i, slot in enumerate(slots)},
        )

    def take(self, rows: Rows, sampled: I32) -> None:
        """Every row has drawn a token, which is computed next."""
        self.positions = self.positions + np.int32(1)
        self.token_ids = sampled
        rows.tokens[self.index, self.positions] = sampled
        rows.lengths[self.index] = self.positions + np.int32(1)

    def add_pages(self, rows: Rows, slot: int) -> None:
        """Takes over what `rows` has in a row's tables by now."""
        place = self.places[slot]
        width = self.tables[0].shape[1]
        if max(rows[slot].num_pages) > width:
            self.tables = rows.tables_of(self.index, self.positions, width + 2 * _SPARE_PAGES)
        else:
            for mine, all_tables in zip(self.tables, rows.tables, strict=True):
                mine[place] = all_tables[slot, :width]

    def hide_out_of_reach(self, rows: Rows) -> None:
        for group, table in enumerate(self.tables):
            rows.hide_out_of_reach(group, table, self.positions)
