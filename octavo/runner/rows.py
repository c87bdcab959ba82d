"""Row slots: what the runner knows of each sequence, as arrays by slot, so that a step picks its rows at once.

A lineup is the part of it that one decode step after the other needs, in the order of the step: while the same rows
advance, a step adds one to the positions and no row is looked at alone. Knows no backend and no order of effects.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from octavo.backends.ops import I32, SampleRows, StepInputs
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
        self.limits = limits
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
        controls = Controls(init, self.limits.vocab_size)
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

    def append(self, slot: int, tokens: Sequence[int] | I32, *, known: bool = True) -> None:
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
        window = self.limits.groups[group].window
        if window is not None:
            first = (starts - (window - 1)) // self.limits.page_size
            table[np.arange(table.shape[1]) < first[:, None]] = -1

    def tables_of(self, slots: Index, starts: I32, width: int) -> tuple[I32, ...]:
        """The tables [R, width] of rows that begin at `starts`, per group, without the pages out of reach."""
        found = []
        for group, table in enumerate(self.tables):
            mine = np.ascontiguousarray(table[slots, :width])
            self.hide_out_of_reach(group, mine, starts)
            found.append(mine)
        return tuple(found)


class Lineup:
    """Rows that decode together, as the arrays of a step that has only them (`inputs`) and of their draws (`draws`).

    The arrays are written in place, by plain loops over their buffers: right after a forward everything is cold, and a
    NumPy operation costs more than a loop over some dozens of numbers. `special` are the places and slots of rows whose
    logits are changed before the draw or reported after it.
    """

    def __init__(self, rows: Rows, slots: tuple[int, ...], page_size: int) -> None:
        self._rows = rows
        self.slots = slots
        self.index: Index = np.array(slots, np.intp)
        count = len(slots)
        lengths = rows.lengths[self.index].tolist()
        self._token_ids: array[int] = array("i", rows.tokens[self.index, rows.lengths[self.index] - 1].tolist())
        self._positions: array[int] = array("i", [length - 1 for length in lengths])
        self._contexts: array[int] = array("i", lengths)
        self._drawn: list[list[int]] = []  # by step; what the rows' records do not have yet
        counting = np.arange(count + 1, dtype=np.int32)
        width = max(self._positions, default=0) // page_size + 1 + _SPARE_PAGES
        positions, contexts = _view(self._positions), _view(self._contexts)
        self.inputs = StepInputs(
            token_ids=_view(self._token_ids),
            positions=positions,
            row_starts=counting,
            context_lens=contexts,
            page_tables=rows.tables_of(self.index, positions, width),
            sample_rows=counting[:count],
        )
        self.draws = rows.draws(self.index, contexts)
        self.special = tuple(
            (i, slot)
            for i, slot in enumerate(slots)
            if rows[slot].controls.active or rows[slot].sampling.logprobs is not None
        )
        self._places = {slot: i for i, slot in enumerate(slots)}
        self._has_windows = any(group.window is not None for group in rows.limits.groups)

    def __len__(self) -> int:
        return len(self.slots)

    def position(self, place: int) -> int:
        """Of the token that a row draws next, before `take`."""
        return self._contexts[place]

    def take(self, tokens: list[int]) -> None:
        """Every row has drawn a token, which it computes next."""
        token_ids, positions, contexts = self._token_ids, self._positions, self._contexts
        for i, token in enumerate(tokens):
            token_ids[i] = token
            positions[i] = context = contexts[i]
            contexts[i] = context + 1
        self._drawn.append(tokens)
        if self.special:
            self.write_records()

    def write_records(self) -> None:
        """Brings the rows' records up to what was drawn: before anybody else reads them."""
        if not self._drawn:
            return
        block = np.array(self._drawn, np.int32)
        for i, slot in enumerate(self.slots):
            self._rows.append(slot, block[:, i])
        self._drawn.clear()

    def add_pages(self, slots: Iterable[int]) -> None:
        """Takes over what the tables of these rows have by now."""
        width = self.inputs.page_tables[0].shape[1]
        for slot in slots:
            if max(self._rows[slot].num_pages) > width:
                tables = self._rows.tables_of(self.index, self.inputs.positions, width + 2 * _SPARE_PAGES)
                self.inputs = replace(self.inputs, page_tables=tables)
                return
            for mine, whole in zip(self.inputs.page_tables, self._rows.tables, strict=True):
                mine[self._places[slot]] = whole[slot, :width]

    def hide_out_of_reach(self) -> None:
        """Takes pages out of the tables that have fallen out of a window's reach."""
        if self._has_windows:
            for group, table in enumerate(self.inputs.page_tables):
                self._rows.hide_out_of_reach(group, table, self.inputs.positions)


def _view(numbers: array[int]) -> I32:
    """The numbers as a NumPy array over the same memory."""
    return np.frombuffer(numbers, np.int32) if numbers else np.zeros(0, np.int32)
