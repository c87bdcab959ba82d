"""The runner: row slots, their tokens and page tables; a StepPlan in, a StepResult out.

Knows one device set (a list of stages, one for now) and the sampling chain. Knows nothing of requests, queues, who
owns a page, or text.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from octavo.backends.ops import F32, I32, Backend, KvCache, Program, SampleRows, StepInputs
from octavo.base.types import EngineLimits, RowInit, RowResult, RowStep, StepPlan, StepResult, TokenLogprobs
from octavo.runner.controls import NEVER, Controls, apply_grammar
from octavo.runner.logprobs import token_logprobs

_SEED_MASK = (1 << 64) - 1
_NOTHING_LEFT, _NOT_A_NUMBER = -1, -2  # in place of a sampled token


@dataclass(frozen=True)
class Stage:
    """A range of layers on one backend: its program and its KV pages. A model is one stage or a list of them."""

    backend: Backend
    program: Program
    kv: KvCache


class Row:
    """What the runner remembers of the sequence in one slot."""

    def __init__(self, init: RowInit, vocab_size: int, num_groups: int) -> None:
        self.tokens: I32 = np.empty(max(64, 2 * len(init.token_ids)), np.int32)
        self.tokens[: len(init.token_ids)] = init.token_ids
        self.length = len(init.token_ids)
        self.num_prompt = init.num_prompt
        self.sampling = init.sampling
        self.seed = init.seed & _SEED_MASK
        self.controls = Controls(init, vocab_size)
        self.num_pages = [0] * num_groups

    def append(self, tokens: Sequence[int]) -> None:
        """Adds tokens after the current length, growing the record."""
        end = self.length + len(tokens)
        if end > len(self.tokens):
            grown = np.empty(2 * end, np.int32)
            grown[: self.length] = self.tokens[: self.length]
            self.tokens = grown
        self.tokens[self.length : end] = tokens
        self.length = end


class DrawTable:
    """What the draw needs of every slot's sampling parameters, as arrays by slot: a step picks its rows at once."""

    def __init__(self, num_slots: int) -> None:
        self._temperature = np.zeros(num_slots, np.float32)
        self._top_k = np.zeros(num_slots, np.int32)
        self._top_p = np.ones(num_slots, np.float32)
        self._min_p = np.zeros(num_slots, np.float32)
        self._seeds = np.zeros(num_slots, np.uint64)

    def enter(self, row: Row, slot: int) -> None:
        """A row takes the slot."""
        sampling = row.sampling
        self._temperature[slot] = 0.0 if sampling.greedy else sampling.temperature
        self._top_k[slot] = min(sampling.top_k, 2**31 - 1)
        self._top_p[slot] = sampling.top_p
        self._min_p[slot] = sampling.min_p
        self._seeds[slot] = row.seed

    def rows(self, slots: Sequence[int], positions: Sequence[int]) -> SampleRows:
        """For draws of these slots (repeated where a row draws several tokens) at these positions."""
        return SampleRows(
            temperature=self._temperature[slots],
            top_k=self._top_k[slots],
            top_p=self._top_p[slots],
            min_p=self._min_p[slots],
            seeds=self._seeds[slots],
            positions=np.array(positions, np.int32),
        )


class _Wanted(NamedTuple):
    """Rows of the logits array that belong to one RowStep: first the prompt's, then those that sample."""

    first: int
    num_prompt_logprobs: int
    num_samples: int


class Runner:
    """Executes plans on a list of stages (one for now). Not thread-safe: one caller."""

    def __init__(self, stages: Sequence[Stage], limits: EngineLimits) -> None:
        if len(stages) != 1:
            raise ValueError(f"the runner drives exactly one stage, got {len(stages)}")
        self._stage = stages[0]
        self._limits = limits
        self._rows: dict[int, Row] = {}
        self._draws = DrawTable(limits.max_num_seqs)
        pages = -(-limits.max_model_len // limits.page_size)
        self._tables = tuple(np.full((limits.max_num_seqs, pages), -1, np.int32) for _ in limits.groups)

    def run(self, plan: StepPlan, masks: Mapping[int, bytes] | None = None) -> StepResult:
        """One step: pages, forward, sampling. `masks` are grammar bit strings by slot."""
        begin = time.monotonic()
        self._apply_changes(plan)
        if not plan.rows:
            return StepResult(plan.step_id, (), time.monotonic() - begin)
        inputs, wanted = self._inputs(plan)
        program = self._stage.program
        logits = program.run(program.prepare(inputs))["logits"]
        rows = self._sample(plan, wanted, logits, masks or {})
        return StepResult(plan.step_id, rows, time.monotonic() - begin)

    def close(self) -> None:
        self._rows.clear()
        self._stage.backend.close()

    # ------------------------------------------------------------ before the forward

    def _apply_changes(self, plan: StepPlan) -> None:
        for slot in plan.free_slots:
            self._rows.pop(slot, None)
        for init in plan.new_rows:
            row = self._rows[init.slot] = Row(init, self._limits.vocab_size, len(self._tables))
            self._draws.enter(row, init.slot)
            for table in self._tables:
                table[init.slot].fill(-1)
        if plan.zero_pages:
            self._stage.kv.zero_pages(plan.zero_pages)
        if plan.copies:
            self._stage.kv.copy_pages([(c.src, c.dst) for c in plan.copies])
        for step in plan.rows:
            if step.draft_ids or any(step.new_pages):
                self._extend_tables(step)

    def _extend_tables(self, step: RowStep) -> None:
        row = self._rows[step.slot]
        for group, pages in enumerate(step.new_pages):
            if pages:
                at = row.num_pages[group]
                self._tables[group][step.slot, at : at + len(pages)] = pages
                row.num_pages[group] = at + len(pages)
        if step.draft_ids:
            known = row.length
            row.append(step.draft_ids)
            row.length = known

    def _inputs(self, plan: StepPlan) -> tuple[StepInputs, list[_Wanted]]:
        """Gathers in lists: most rows have one token, and there a list costs a tenth of an array's slice."""
        token_ids: list[int] = []
        positions: list[int] = []
        starts = [0]
        contexts: list[int] = []
        sample_rows: list[int] = []
        wanted: list[_Wanted] = []
        for step in plan.rows:
            row = self._rows[step.slot]
            end = step.start + step.num_tokens
            wanted.append(_wanted(step, row.num_prompt, starts[-1], sample_rows))
            if step.num_tokens == 1:
                token_ids.append(row.tokens.item(step.start))
                positions.append(step.start)
            else:
                token_ids.extend(row.tokens[step.start : end].tolist())
                positions.extend(range(step.start, end))
            starts.append(len(token_ids))
            contexts.append(end)
        width = -(-max(contexts) // self._limits.page_size)
        tables = self._page_tables(plan.rows, width)
        inputs = StepInputs(
            np.array(token_ids, np.int32),
            np.array(positions, np.int32),
            np.array(starts, np.int32),
            np.array(contexts, np.int32),
            tables,
            np.array(sample_rows, np.int32),
        )
        return inputs, wanted

    def _page_tables(self, steps: Sequence[RowStep], width: int) -> tuple[I32, ...]:
        """The rows' tables per group, without the pages that are out of a window's reach: they may have new owners."""
        slots = [step.slot for step in steps]
        found = []
        for group, table in zip(self._limits.groups, self._tables, strict=True):
            mine = np.ascontiguousarray(table[slots, :width])
            if group.window is not None:
                first = np.array([step.start for step in steps], np.int32) - (group.window - 1)
                mine[np.arange(width) < first[:, None] // self._limits.page_size] = -1
            found.append(mine)
        return tuple(found)

    # ------------------------------------------------------------ after the forward

    def _sample(self, plan: StepPlan, wanted: list[_Wanted], logits: F32, masks: Mapping[int, bytes]
                ) -> tuple[RowResult, ...]:  # fmt: skip
        raw: dict[int, F32] = {}  # logits rows that controls will change, kept for log-probabilities
        prompt_logprobs: list[tuple[TokenLogprobs, ...]] = []
        drawn: list[int] = []  # rows of the logits array that sample
        slots: list[int] = []  # whose they are
        positions: list[int] = []  # of the tokens to draw
        for step, want in zip(plan.rows, wanted, strict=True):
            row = self._rows[step.slot]
            prompt_logprobs.append(self._prompt_logprobs(step, row, want, logits) if want.num_prompt_logprobs else ())
            first = want.first + want.num_prompt_logprobs
            position = step.start + step.num_tokens - want.num_samples + 1
            mask = masks.get(step.slot)
            for i in range(want.num_samples):
                if mask is not None or row.controls.active:
                    self._control(row, position + i, logits, first + i, mask, raw)
                drawn.append(first + i)
                slots.append(step.slot)
                positions.append(position + i)
        tokens = self._draw(logits, drawn, self._draws.rows(slots, positions)) if drawn else []
        return self._results(plan, wanted, prompt_logprobs, tokens, logits, raw)

    def _control(self, row: Row, position: int, logits: F32, index: int, mask: bytes | None, raw: dict[int, F32]
                 ) -> None:  # fmt: skip
        if row.sampling.logprobs is not None:
            raw[index] = logits[index].copy()
        if mask is not None:
            apply_grammar(logits[index], mask)
        if row.controls.active:
            row.controls.apply(logits[index], row.tokens[:position])

    def _draw(self, logits: F32, drawn: list[int], rows: SampleRows) -> list[int]:
        """A token for each row of `drawn`, or why there is none: an impossible one is drawn only for want of others."""
        chosen = logits if len(drawn) == len(logits) else logits[drawn]
        with np.errstate(invalid="ignore"):  # a row may be without a maximum
            sampled = self._stage.backend.sample(chosen, rows)
        values = logits[drawn, sampled]
        sampled[values == NEVER] = _NOTHING_LEFT
        sampled[np.isnan(values)] = _NOT_A_NUMBER
        tokens: list[int] = sampled.tolist()
        return tokens

    def _prompt_logprobs(self, step: RowStep, row: Row, want: _Wanted, logits: F32) -> tuple[TokenLogprobs, ...]:
        count = row.sampling.prompt_logprobs or 0
        first = max(step.start, step.prompt_logprobs_from)
        return tuple(
            token_logprobs(logits[want.first + i], int(row.tokens[first + i + 1]), count)
            for i in range(want.num_prompt_logprobs)
        )

    def _results(self, plan: StepPlan, wanted: list[_Wanted], prompt_logprobs: list[tuple[TokenLogprobs, ...]],
                 tokens: list[int], logits: F32, raw: dict[int, F32]) -> tuple[RowResult, ...]:  # fmt: skip
        results = []
        at = 0
        for step, want, of_prompt in zip(plan.rows, wanted, prompt_logprobs, strict=True):
            row = self._rows[step.slot]
            sampled = tokens[at : at + want.num_samples]
            at += want.num_samples
            accepted = _accept(sampled, step.draft_ids)
            error = None
            if accepted and accepted[-1] < 0:
                reason = accepted.pop()
                error = _no_token(reason, row.length + len(accepted))
            if step.draft_ids and len(accepted) <= len(step.draft_ids):
                row.controls.recount()
            row.append(accepted)
            logprobs: tuple[TokenLogprobs, ...] = ()
            if row.sampling.logprobs is not None:
                first = want.first + want.num_prompt_logprobs
                logprobs = tuple(
                    token_logprobs(raw.get(first + i, logits[first + i]), token, row.sampling.logprobs)
                    for i, token in enumerate(accepted)
                )
            results.append(RowResult(step.slot, tuple(accepted), logprobs, of_prompt, error))
        return tuple(results)


def _wanted(step: RowStep, num_prompt: int, at: int, sample_rows: list[int]) -> _Wanted:
    """Appends the token indices of this row whose logits are wanted to `sample_rows`."""
    first = len(sample_rows)
    num_prompt_logprobs = 0
    if step.prompt_logprobs_from >= 0:
        begin = max(step.start, step.prompt_logprobs_from)
        end = min(step.start + step.num_tokens, num_prompt - 1)
        num_prompt_logprobs = max(0, end - begin)
        sample_rows.extend(at + p - step.start for p in range(begin, end))
    num_samples = 1 + len(step.draft_ids) if step.sample else 0
    last = at + step.num_tokens
    sample_rows.extend(range(last - num_samples, last))
    return _Wanted(first, num_prompt_logprobs, num_samples)


def _accept(sampled: list[int], drafts: tuple[int, ...]) -> list[int]:
    """The tokens to keep: each draft is accepted iff the target drew the same token; one more follows the last."""
    for i, draft in enumerate(drafts):
        if sampled[i] != draft:
            return sampled[: i + 1]
    return sampled


def _no_token(reason: int, position: int) -> str:
    if reason == _NOT_A_NUMBER:
        return f"The model's logits at position {position} are not numbers: its weights are damaged, or overflow."
    return (
        f"No token is allowed at position {position}: allowed_token_ids, bad_words, min_tokens and the grammar of this "
        "request exclude all of them together. Loosen one of them."
    )
