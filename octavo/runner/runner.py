"""The runner: a StepPlan in, a StepResult out; in two halves, between which other workers compute the forward.

Knows one device set (a list of stages, one for now) and the order of a step's effects and of the sampling chain. Knows
nothing of requests, queues, who owns a page, or text.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from octavo.backends.ops import F32, NOT_A_NUMBER, Backend, KvCache, Program, StepInputs
from octavo.base.types import EngineLimits, RowResult, RowStep, StepPlan, StepResult, TokenLogprobs
from octavo.runner.controls import apply_grammar
from octavo.runner.logprobs import token_logprobs
from octavo.runner.rows import Lineup, Rows


@dataclass(frozen=True)
class Stage:
    """A range of layers on one backend: its program and its KV pages. A model is one stage or a list of them."""

    backend: Backend
    program: Program
    kv: KvCache


class _Wanted(NamedTuple):
    """Rows of the logits array that belong to one RowStep: first the prompt's, then those that sample."""

    first: int
    num_prompt_logprobs: int
    num_samples: int

    @property
    def samples(self) -> range:
        first = self.first + self.num_prompt_logprobs
        return range(first, first + self.num_samples)


@dataclass
class _Step:
    """A step that has begun. The first rows of its logits are the lineup's, `wanted` has those of the plan's others.
    `raw` are logits before controls changed them, for log-probabilities."""

    plan: StepPlan
    begin_s: float
    wanted: list[_Wanted] = field(default_factory=list)
    raw: dict[int, F32] = field(default_factory=dict)


class Runner:
    """Executes plans on a list of stages (one for now). Not thread-safe: one caller at a time."""

    def __init__(self, stages: Sequence[Stage], limits: EngineLimits) -> None:
        if len(stages) != 1:
            raise ValueError(f"the runner drives exactly one stage, got {len(stages)}")
        self._stage = stages[0]
        self._limits = limits
        self._rows = Rows(limits)
        self._lineup = Lineup(self._rows, (), limits.page_size)
        self._step: _Step | None = None

    def run(self, plan: StepPlan, masks: Mapping[int, bytes] | None = None) -> StepResult:
        """One step: pages, forward, sampling. `masks` are grammar bit strings by slot."""
        self.begin(plan)
        return self.finish(masks or {})

    def begin(self, plan: StepPlan) -> None:
        """Everything up to the forward, which other workers begin to compute."""
        assert self._step is None, "one step at a time"
        step = _Step(plan, time.monotonic())
        self._apply_changes(plan)
        inputs = self._inputs(plan, step)
        if inputs is not None:
            program = self._stage.program
            program.submit(program.prepare(inputs))
        self._step = step

    def finish(self, masks: Mapping[int, bytes]) -> StepResult:
        """Joins the forward of the step that has begun, and samples."""
        step, self._step = self._step, None
        assert step is not None, "no step has begun"
        if not step.plan.num_tokens:
            return StepResult(step.plan.step_id, (), time.monotonic() - step.begin_s)
        return self._sample(step, self._stage.program.join()["logits"], masks)

    def close(self) -> None:
        """Ends the step that has begun, if any, and the backend."""
        if self._step is not None and self._step.plan.num_tokens:
            self._stage.program.join()
        self._step = None
        self._rows.clear()
        self._stage.backend.close()

    # ------------------------------------------------------------ before the forward

    def _apply_changes(self, plan: StepPlan) -> None:
        rows = self._rows
        if plan.decodes is not self._lineup.slots or plan.rows:
            self._lineup.write_records()
        for slot in plan.free_slots:
            rows.leave(slot)
        for init in plan.new_rows:
            rows.enter(init)
        if plan.zero_pages:
            self._stage.kv.zero_pages(plan.zero_pages)
        if plan.copies:
            self._stage.kv.copy_pages([(c.src, c.dst) for c in plan.copies])
        for step in plan.rows:
            rows.add_pages(step.slot, step.new_pages)
            if step.draft_ids:
                rows.append(step.slot, step.draft_ids, known=False)
        for slot, new_pages in plan.decode_pages:
            rows.add_pages(slot, new_pages)

    def _inputs(self, plan: StepPlan, step: _Step) -> StepInputs | None:
        """The step's arrays: the lineup's as they are, with those of the other rows behind them, if there are any."""
        lineup = self._line_up(plan)
        if plan.rows:
            return self._with_rows(lineup.inputs, plan.rows, step)
        return lineup.inputs if plan.decodes else None

    def _line_up(self, plan: StepPlan) -> Lineup:
        """The rows that decode, at their new positions; their arrays are made only when others than before do."""
        if plan.decodes is not self._lineup.slots:
            self._lineup = Lineup(self._rows, plan.decodes, self._limits.page_size)
        else:
            if plan.decode_pages:
                self._lineup.add_pages([slot for slot, _ in plan.decode_pages])
            self._lineup.hide_out_of_reach()
        return self._lineup

    def _with_rows(self, decodes: StepInputs, steps: Sequence[RowStep], step: _Step) -> StepInputs:
        rows = self._rows
        token_ids, positions = [decodes.token_ids], [decodes.positions]
        num_tokens = len(decodes.token_ids)
        ends: list[int] = []
        sample_rows = decodes.sample_rows.tolist()
        for row_step in steps:
            end = row_step.start + row_step.num_tokens
            step.wanted.append(_wanted(row_step, rows[row_step.slot].num_prompt, num_tokens, sample_rows))
            token_ids.append(rows.tokens[row_step.slot, row_step.start : end])
            positions.append(np.arange(row_step.start, end, dtype=np.int32))
            num_tokens += row_step.num_tokens
            ends.append(num_tokens)
        starts = np.array([row_step.start for row_step in steps], np.int32)
        contexts = starts + np.array([row_step.num_tokens for row_step in steps], np.int32)
        longest = max(int(contexts.max()), int(decodes.context_lens.max(initial=0)))
        index = np.array([row_step.slot for row_step in steps], np.intp)
        tables = rows.tables_of(
            np.concatenate([self._lineup.index, index]),
            np.concatenate([decodes.positions, starts]),
            -(-longest // self._limits.page_size),
        )
        return StepInputs(
            np.concatenate(token_ids),
            np.concatenate(positions),
            np.concatenate([decodes.row_starts, np.array(ends, np.int32)]),
            np.concatenate([decodes.context_lens, contexts]),
            tables,
            np.array(sample_rows, np.int32),
        )

    # ------------------------------------------------------------ after the forward

    def _sample(self, step: _Step, logits: F32, masks: Mapping[int, bytes]) -> StepResult:
        plan, lineup = step.plan, self._lineup
        prompt_logprobs = [self._prompt_logprobs(s, w, logits) for s, w in zip(plan.rows, step.wanted, strict=True)]
        if lineup.special or masks:
            self._control_lineup(step, logits, masks)
        results: tuple[RowResult, ...] = ()
        if not plan.rows:
            decoded: list[int] = self._stage.backend.sample(logits, lineup.draws).tolist()
        else:
            tokens = self._draw_all(step, logits, masks)
            decoded = tokens[: len(lineup)]
            results = self._row_results(step, prompt_logprobs, tokens[len(lineup) :], logits)
        logprobs, errors = self._notes(step, decoded, logits)
        lineup.take(decoded)
        return StepResult(plan.step_id, results, time.monotonic() - step.begin_s, decoded, logprobs, errors)

    def _control_lineup(self, step: _Step, logits: F32, masks: Mapping[int, bytes]) -> None:
        lineup = self._lineup
        places = lineup.special
        if masks:
            places = tuple((i, s) for i, s in enumerate(lineup.slots) if s in masks or self._rows[s].controls.active)
        for i, slot in places:
            self._control(step, slot, lineup.position(i), logits, i, masks.get(slot))

    def _control(self, step: _Step, slot: int, position: int, logits: F32, index: int, mask: bytes | None) -> None:
        """Grammar and sparse controls on one row of the logits, for the token at `position`."""
        row = self._rows[slot]
        if mask is None and not row.controls.active:
            return
        if row.sampling.logprobs is not None:
            step.raw[index] = logits[index].copy()
        if mask is not None:
            apply_grammar(logits[index], mask)
        if row.controls.active:
            row.controls.apply(logits[index], self._rows.tokens[slot, :position])

    def _draw_all(self, step: _Step, logits: F32, masks: Mapping[int, bytes]) -> list[int]:
        """Draws for the lineup and the plan's other rows together."""
        lineup = self._lineup
        drawn, slots = list(range(len(lineup))), list(lineup.slots)
        positions: list[int] = lineup.inputs.context_lens.tolist()
        for row_step, want in zip(step.plan.rows, step.wanted, strict=True):
            position = row_step.start + row_step.num_tokens - want.num_samples + 1
            for i, index in enumerate(want.samples):
                self._control(step, row_step.slot, position + i, logits, index, masks.get(row_step.slot))
                drawn.append(index)
                slots.append(row_step.slot)
                positions.append(position + i)
        if not drawn:
            return []
        draws = self._rows.draws(np.array(slots, np.intp), np.array(positions, np.int32))
        tokens: list[int] = self._stage.backend.sample(
            logits if len(drawn) == len(logits) else logits[drawn], draws
        ).tolist()
        return tokens

    def _prompt_logprobs(self, step: RowStep, want: _Wanted, logits: F32) -> tuple[TokenLogprobs, ...]:
        count = want.num_prompt_logprobs
        if not count:
            return ()
        first = max(step.start, step.prompt_logprobs_from) + 1
        tokens = self._rows.tokens[step.slot, first : first + count]
        num_top = self._rows[step.slot].sampling.prompt_logprobs or 0
        return tuple(token_logprobs(self._stage.backend, logits[want.first : want.first + count], tokens, num_top))

    def _logprobs(self, step: _Step, slot: int, first: int, tokens: Sequence[int], logits: F32
                  ) -> tuple[TokenLogprobs, ...]:  # fmt: skip
        """Of tokens drawn from the logits' rows `first` on, where the row's request wants them."""
        num_top = self._rows[slot].sampling.logprobs
        if num_top is None or not tokens:
            return ()
        raw = np.stack([step.raw.get(first + i, logits[first + i]) for i in range(len(tokens))])
        return tuple(token_logprobs(self._stage.backend, raw, np.array(tokens, np.int32), num_top))

    def _notes(self, step: _Step, tokens: list[int], logits: F32) -> tuple[dict[int, TokenLogprobs], dict[int, str]]:
        """By slot, log-probabilities of the lineup's tokens, and why there is none."""
        lineup = self._lineup
        logprobs: dict[int, TokenLogprobs] = {}
        errors: dict[int, str] = {}
        if tokens and min(tokens) < 0:
            for i, token in enumerate(tokens):
                if token < 0:
                    errors[lineup.slots[i]] = _no_token(token, lineup.position(i))
        for i, slot in lineup.special:
            for entry in self._logprobs(step, slot, i, tokens[i : i + 1], logits) if slot not in errors else ():
                logprobs[slot] = entry
        return logprobs, errors

    def _row_results(self, step: _Step, prompt_logprobs: list[tuple[TokenLogprobs, ...]], tokens: list[int],
                     logits: F32) -> tuple[RowResult, ...]:  # fmt: skip
        results = []
        at = 0
        for row_step, want, of_prompt in zip(step.plan.rows, step.wanted, prompt_logprobs, strict=True):
            slot, drafts = row_step.slot, row_step.draft_ids
            accepted = _accept(tokens[at : at + want.num_samples], drafts)
            at += want.num_samples
            error = None
            if accepted and accepted[-1] < 0:
                reason = accepted.pop()
                error = _no_token(reason, int(self._rows.lengths[slot]) + len(accepted))
            if drafts and len(accepted) <= len(drafts):
                self._rows[slot].controls.recount()
            self._rows.append(slot, accepted)
            logprobs = self._logprobs(step, slot, want.samples.start, accepted, logits)
            results.append(RowResult(slot, tuple(accepted), logprobs, of_prompt, error))
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
    if reason == NOT_A_NUMBER:
        return f"The model's logits at position {position} are not numbers: its weights are damaged, or overflow."
    return (
        f"No token is allowed at position {position}: allowed_token_ids, bad_words, min_tokens and the grammar of this "
        "request exclude all of them together. Loosen one of them."
    )
