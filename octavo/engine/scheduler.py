"""Scheduler: decides what the next step computes (schedule) and takes in what it yielded (commit).

There is no prefill or decode phase: every running row has tokens to catch up with, and a step hands out a budget of
tokens, rows that need one first, then prompt chunks. Rows are served in the order of their keys (priority, arrival,
completion), and only a later one is ever preempted for an earlier one; so the first always advances, whatever
happens, and nothing can livelock. Rows that decode form a lineup, which costs next to nothing while nobody comes,
ends or needs a page. Knows no text, no executor and no clock.
"""

from __future__ import annotations

from collections.abc import Sequence as SeqOf
from dataclasses import dataclass

from octavo.base.types import (
    CompletionName,
    EngineLimits,
    Request,
    RowInit,
    RowResult,
    RowStep,
    StepEvents,
    StepPlan,
    StepResult,
    TokenEvent,
)
from octavo.engine.draft import Draft, InFlight
from octavo.engine.lineup import Lineup
from octavo.engine.prefix import Entry
from octavo.engine.queues import RowSlots, SequenceQueue
from octavo.engine.sequence import Finish, Sequence, Status
from octavo.engine.tables import KvSpace, too_large_for_pool


@dataclass
class Counters:
    """What the scheduler has done since the start."""

    preemptions: int = 0
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    generation_tokens: int = 0


class Scheduler:
    """State of all sequences that are not finished. `limits` are refused here if no plan could be made within them."""

    def __init__(self, limits: EngineLimits) -> None:
        positive = ("num_pages", "page_size", "max_model_len", "max_num_seqs", "max_num_batched_tokens")
        for name in positive:
            assert getattr(limits, name) >= 1, f"{name} must be at least 1"
        assert limits.groups, "a model has at least one KV group"
        self.limits = limits
        self.space = KvSpace(limits)
        self.waiting = SequenceQueue()
        self.running = SequenceQueue()
        self.counters = Counters()
        self._max_samples = limits.max_samples or limits.max_num_batched_tokens
        # every running row may need one token and one sample of each step's budget
        self._slots = RowSlots(min(limits.max_num_seqs, limits.max_num_batched_tokens, self._max_samples))
        self._siblings: dict[str, list[Sequence]] = {}
        self._lineup = Lineup()
        self._lagging: list[Sequence] = []  # running rows that have more to catch up with, or no token yet
        self._rows_changed = False  # the two above are to be made anew
        self._needy: list[Sequence] = []  # decoding rows that need a page for their next token
        self._may_admit = True  # something has changed since a waiting sequence was refused
        self._in_flight: dict[int, InFlight] = {}
        self._num_arrived = 0
        self._num_planned = 0

    # ------------------------------------------------------------ requests

    def add(self, request: Request) -> list[TokenEvent]:
        """Queues the request's completions; a request that can never be served ends at once, with an error event."""
        assert request.request_id not in self._siblings, f"request {request.request_id} is already here"
        indices = range(request.sampling.n)
        error = too_large_for_pool(self.limits, len(request.prompt_ids))
        if error is not None:
            return [TokenEvent(request.request_id, i, (), finish_reason="error", error=error) for i in indices]
        assert 0 < len(request.prompt_ids) < self.limits.max_model_len, "the frontend checks the prompt's length"
        self._num_arrived += 1
        groups = len(self.limits.groups)
        prompt = list(request.prompt_ids)
        siblings = [Sequence(request, i, self._num_arrived, groups, prompt) for i in indices]
        self._siblings[request.request_id] = siblings
        for seq in siblings:
            self.waiting.add(seq)
        self._may_admit = True
        return []

    def abort(self, request_id: str, index: int | None = None) -> list[TokenEvent]:
        """Ends a request, or one completion of it, and frees its pages now; a step in flight may still compute it,
        its result is then dropped. An unknown (finished) one is nothing to do."""
        events = []
        for seq in list(self._siblings.get(request_id, ())):
            if index is None or seq.index == index:
                events.append(self._event(seq, (), finish=Finish("abort")))
                self._finish(seq)
        return events

    def drop_all(self) -> None:
        """Ends everything without events, a step in flight included."""
        self._in_flight.clear()
        for request_id in list(self._siblings):
            self.abort(request_id)

    @property
    def has_work(self) -> bool:
        return bool(len(self.waiting) or len(self.running))

    def check(self) -> None:
        """Proves the page accounting and the queues (assertions)."""
        alive = [seq for siblings in self._siblings.values() for seq in siblings]
        self.space.check(alive)
        assert len(alive) == len(self.running) + len(self.waiting), "a sequence is in no queue, or in two"
        for queue, status in ((self.running, Status.RUNNING), (self.waiting, Status.WAITING)):
            assert all(seq.status is status for seq in queue), f"a sequence in the wrong queue: {status}"
        slots = [seq.slot for seq in self.running]
        assert len(set(slots)) == len(slots) and -1 not in slots, "a row slot is used twice"
        assert not any(any(seq.tables) for seq in self.waiting), "a waiting sequence holds pages"
        if not self._rows_changed:
            divided = sorted([*self._lineup.rows, *self._lagging], key=lambda seq: seq.key)
            assert divided == list(self.running), "a running row is neither in the lineup nor behind, or in both"
            full = {seq.key for seq in self._lineup.rows if self.space.is_full(seq)}
            assert full == {seq.key for seq in self._needy} or self._in_flight, "a row without a page is overlooked"
            assert all(seq.num_computed < seq.horizon for seq in self._lineup.rows), "a row is not looked at in time"

    # ------------------------------------------------------------ schedule

    def schedule(self) -> StepPlan | None:
        """The next step, or None if there is nothing to compute."""
        assert not self._in_flight, "a step is planned after the last one is committed"
        if not self.has_work:
            return None
        if self._rows_changed:
            self._line_up()
        elif not (self._needy or self._lagging or (self._may_admit and len(self.waiting))):
            # the rows of the last step go on: none has come, left or got a page
            return self._planned(StepPlan(self._num_planned, (), decodes=self._lineup.slots), [])
        draft = Draft(self.limits.max_num_batched_tokens - len(self._lineup), self._max_samples - len(self.running))
        if self._needy or self._lagging:
            self._advance(draft)
        if not draft.preempted and self._may_admit and len(self.waiting):
            self._admit(draft)
        assert draft.steps or self._lineup.slots, "sequences are waiting, but none can advance"
        plan = StepPlan(
            step_id=self._num_planned,
            rows=tuple([step for _, step in draft.steps]),
            new_rows=tuple(draft.new_rows),
            free_slots=self._slots.drain_left(),
            zero_pages=self.space.pool.drain_fresh(),
            copies=tuple(draft.copies),
            decodes=self._lineup.slots,
            decode_pages=tuple(draft.decode_pages),
        )
        return self._planned(plan, draft.steps)

    def _planned(self, plan: StepPlan, steps: list[tuple[Sequence, RowStep]]) -> StepPlan:
        self._num_planned += 1
        self._in_flight[plan.step_id] = InFlight(self._lineup, steps)
        return plan

    def _line_up(self) -> None:
        """Divides the running rows into those that decode and those that lag behind."""
        decoding: list[Sequence] = []
        self._lagging.clear()
        for seq in self.running:
            (decoding if seq.decodes else self._lagging).append(seq)
        self._lineup = Lineup.of(decoding)
        for seq in decoding:
            self._look_ahead(seq)
        self._needy = [seq for seq in decoding if self.space.is_full(seq)]
        self._rows_changed = False

    def _look_ahead(self, seq: Sequence) -> None:
        """Sets when a decoding row is to be looked at again: at a page's border or at the end of its length."""
        last = min(self.limits.max_model_len, self.space.longest + 1, seq.last_length or self.limits.max_model_len)
        seq.horizon = min(self.space.next_border(seq), last - 1)

    def _advance(self, draft: Draft) -> None:
        """Serves the running rows that need pages or more than a token, in order: chunks share the budget.

        Each decoding row has its token of the budget already, and a preempted one leaves it unused.
        """
        for seq in sorted(self._needy + self._lagging, key=lambda seq: seq.key):
            if seq.status is not Status.RUNNING:
                continue
            wanted = 1 if seq.decodes else self._chunk(seq, draft)
            num_tokens = self._make_room(seq, wanted, draft) if wanted > 0 else 0
            if num_tokens and seq.decodes:
                draft.decode_pages.append((seq.slot, self.space.extend(seq, seq.num_computed + 1)))
            elif num_tokens:
                self._plan_row(seq, num_tokens, draft)
                draft.budget -= num_tokens
        self._needy.clear()
        if draft.preempted:
            self._line_up()

    def _chunk(self, seq: Sequence, draft: Draft) -> int:
        """How many tokens the budgets allow the row, which has one sample reserved."""
        most = min(seq.num_remaining, draft.budget)
        return min(most, 1 + draft.samples) if seq.wants_prompt_logprobs else most

    def _make_room(self, seq: Sequence, wanted: int, draft: Draft) -> int:
        """How many tokens the row can have, after preempting later rows while it can have none; 0: it left itself.

        Rows are served in order, so a row that is preempted here has nothing in this plan yet.
        """
        while True:
            num_tokens = min(wanted, self.space.room(seq))
            if num_tokens > 0:
                return num_tokens
            victim = self.running.last()
            assert len(self.running) > 1, "a sequence that fits alone has no room"
            self._preempt(victim)
            draft.preempted = True
            if victim is seq:
                return 0

    def _admit(self, draft: Draft) -> None:
        """Lets waiting sequences in, strictly in order, while slots, budget and pages last.

        A sequence that waits for another's work (a block in this step, a sibling's prompt) does not hold up the
        others, but keeps a slot: it is not overtaken, only spared double work.
        """
        if draft.budget <= 0 or draft.samples <= 0 or not len(self._slots):
            return
        computing = {d for seq, step in draft.steps for d in self.space.computing(seq, step.start + step.num_tokens)}
        for seq in self._lineup.rows:
            computing.update(self.space.computing(seq, seq.num_computed + 1))
        # leave each running row the pages it still needs, and one per group to grow into
        reserved = sum(map(self.space.pages_missing, self.running)) + len(self.running) * len(self.limits.groups)
        skipped = 0
        for seq in self.waiting.snapshot():
            if draft.budget <= 0 or draft.samples <= 0 or len(self._slots) <= skipped:
                return
            entry = self._entry(seq)
            if entry is None or (entry.may_wait and self.space.next_digest(seq, entry) in computing):
                skipped += 1
                continue
            if len(self.running) and self.space.pages_to_enter(seq, entry) > self.space.pool.num_free - reserved:
                self._may_admit = skipped > 0  # else until pages or slots are freed
                return
            self._enter(seq, entry, draft)
            draft.samples -= 1
            num_tokens = min(self._chunk(seq, draft), self.space.room(seq))
            assert num_tokens > 0, "an admitted sequence has no room"
            computing.update(self.space.computing(seq, seq.num_computed + num_tokens))
            self._plan_row(seq, num_tokens, draft)
            draft.budget -= num_tokens
            reserved += self.space.pages_missing(seq) + len(self.limits.groups)

    def _entry(self, seq: Sequence) -> Entry | None:
        """How the sequence can enter now: beside a sibling, or after a cached prefix; None: it waits for a sibling.

        Only a completion that has nothing yet looks for an earlier one that has computed, or will, their prompt.
        """
        if seq.num_output == 0 and seq.num_prompt > 1 and not seq.wants_prompt_logprobs:
            for sibling in self._siblings[seq.request_id]:
                if sibling is seq:
                    break
                if sibling.status is Status.RUNNING:
                    fork = self.space.find_fork(seq, sibling)
                    if fork is not None:
                        return fork
                if sibling.num_output == 0 and sibling.num_computed < seq.num_prompt:
                    return None
        return self.space.find_hit(seq)

    def _enter(self, seq: Sequence, entry: Entry, draft: Draft) -> None:
        first_time = seq.num_cached < 0
        seq.slot = self._slots.take()
        draft.copies.extend(self.space.enter(seq, entry))
        self.waiting.remove(seq)
        self.running.add(seq)
        self._rows_changed = True
        seq.status = Status.RUNNING
        if first_time:
            seq.start()
            seq.num_cached = entry.num_tokens
            if seq.index == 0:
                self.counters.prompt_tokens += seq.num_prompt
                self.counters.cached_prompt_tokens += seq.num_cached
        request = seq.request
        draft.new_rows.append(
            RowInit(
                slot=seq.slot,
                token_ids=tuple(seq.tokens),
                num_prompt=seq.num_prompt,
                sampling=request.sampling,
                seed=seq.seed,
                eos_token_ids=request.eos_token_ids,
                bad_word_ids=request.bad_word_ids,
            )
        )

    def _plan_row(self, seq: Sequence, num_tokens: int, draft: Draft) -> RowStep:
        start = seq.num_computed
        end = start + num_tokens
        if seq.wants_prompt_logprobs:
            draft.samples -= num_tokens - 1
        step = RowStep(
            slot=seq.slot,
            start=start,
            num_tokens=num_tokens,
            new_pages=self.space.extend(seq, end),
            sample=end == len(seq.tokens),
            prompt_logprobs_from=seq.prompt_logprobs_next if seq.wants_prompt_logprobs else -1,
        )
        draft.steps.append((seq, step))
        return step

    def _preempt(self, seq: Sequence) -> None:
        """Back to the queue: pages are freed, and everything is computed again when it returns."""
        self.running.remove(seq)
        self._rows_changed = self._may_admit = True
        self._slots.leave(seq.slot)
        self.space.release(seq)
        seq.status = Status.WAITING
        self.waiting.add(seq)
        self.counters.preemptions += 1

    # ------------------------------------------------------------ commit

    def commit(self, plan: StepPlan, result: StepResult) -> StepEvents:
        """Takes in a step's result: tokens are appended, full blocks published, sequences finish or go on."""
        assert result.step_id == plan.step_id, f"step {plan.step_id} was answered by {result.step_id}"
        flight = self._in_flight.pop(plan.step_id)
        events: list[TokenEvent] = []
        names, tokens = self._commit_decodes(flight, result, events)
        for (seq, step), row in zip(flight.steps, result.rows, strict=True):
            if seq.status is Status.FINISHED:
                continue  # aborted while the step ran
            assert row.slot == step.slot, "rows of the result are in the order of the plan"
            # of the drafts, those before the last token were right and are computed
            accepted = len(row.token_ids) - 1 if step.draft_ids else 0
            computed = step.start + step.num_tokens - len(step.draft_ids) + accepted
            self._commit_row(seq, computed, row, events)
            if seq.decodes:
                self._rows_changed = True  # it has caught up
        return StepEvents(names, tokens, events)

    def _commit_decodes(
        self, flight: InFlight, result: StepResult, events: list[TokenEvent]
    ) -> tuple[tuple[CompletionName, ...], SeqOf[int]]:
        """One token for each row of the lineup: returns those that are all there is to say of a completion."""
        lineup, tokens = flight.lineup, result.tokens
        assert len(tokens) == len(lineup), "one token for each decoding row"
        for seq, token in zip(lineup.detailed, tokens[len(lineup.plain) :], strict=True):
            if seq.status is not Status.FINISHED:
                self._commit_one(seq, token, result, events)
        if flight.thinned or result.errors:
            alive = [(s, t) for s, t in zip(lineup.plain, tokens, strict=False) if s.status is not Status.FINISHED]
            for seq, token in alive:
                self._commit_one(seq, token, result, events)
            return (), ()
        ends, noticed = lineup.ends, []
        for i, seq in enumerate(lineup.plain):
            token = tokens[i]
            seq.tokens.append(token)
            seq.num_computed = computed = seq.num_computed + 1
            if computed >= seq.horizon or token in ends:
                noticed.append(i)
        self.counters.generation_tokens += len(lineup.plain)
        ended = {i for i in noticed if self._settle(lineup.plain[i], (tokens[i],), None, events)}
        if ended:
            left = [i for i in range(len(lineup.plain)) if i not in ended]
            return tuple([lineup.names[i] for i in left]), [tokens[i] for i in left]
        return lineup.names, tokens if not lineup.detailed else tokens[: len(lineup.plain)]

    def _commit_one(self, seq: Sequence, token: int, result: StepResult, events: list[TokenEvent]) -> None:
        """A row of the lineup of which there is more to say than its token."""
        error = result.errors.get(seq.slot)
        entry = result.logprobs.get(seq.slot)
        row = RowResult(seq.slot, () if error else (token,), () if entry is None else (entry,), error=error)
        self._commit_row(seq, seq.num_computed + 1, row, events)

    def _commit_row(self, seq: Sequence, computed: int, row: RowResult, events: list[TokenEvent]) -> None:
        """Accepts what a row yielded, up to a token that ends it; `computed` tokens of it are in the pages then."""
        taken = 0
        for token in row.token_ids:
            seq.tokens.append(token)
            taken += 1
            if seq.finish_after(token, self.limits.max_model_len) is not None:
                break
        seq.num_computed = min(computed, len(seq.tokens))
        seq.prompt_logprobs_next += len(row.prompt_logprobs)
        self.counters.generation_tokens += taken
        ended = self._settle(seq, row.token_ids[:taken], row, events)
        if not ended and (taken or row.prompt_logprobs):
            events.append(self._event(seq, row.token_ids[:taken], finish=None, row=row))

    def _settle(
        self, seq: Sequence, token_ids: tuple[int, ...], row: RowResult | None, events: list[TokenEvent]
    ) -> bool:
        """After tokens have been appended: pages are published and given back, and the sequence ends if it should,
        which makes its last event (True)."""
        finish = seq.finish_after(token_ids[-1], self.limits.max_model_len) if token_ids else None
        if finish is None and row is not None and row.error is not None:
            finish = Finish("error")
        elif finish is None and token_ids and not self.space.fits_alone(len(seq.tokens)):
            finish = Finish("length")  # the whole pool could not hold one token more
        self.space.publish(seq)
        if self.space.give_back(seq):
            self._may_admit = True
        if finish is not None:
            events.append(self._event(seq, token_ids, finish=finish, row=row))
            self._finish(seq)
            return True
        self._look_ahead(seq)
        if seq.decodes and self.space.is_full(seq):
            self._needy.append(seq)
        return False

    def _event(
        self, seq: Sequence, token_ids: tuple[int, ...], *, finish: Finish | None, row: RowResult | None = None
    ) -> TokenEvent:
        return TokenEvent(
            request_id=seq.request_id,
            index=seq.index,
            token_ids=token_ids,
            logprobs=row.logprobs[: len(token_ids)] if row else (),
            prompt_logprobs=row.prompt_logprobs if row else (),
            num_cached_tokens=max(0, seq.num_cached),
            finish_reason=finish.reason if finish else None,
            stop_reason=finish.stop_reason if finish else None,
            error=row.error if row and finish and finish.reason == "error" else None,
        )

    def _finish(self, seq: Sequence) -> None:
        self._may_admit = True
        if seq.status is Status.RUNNING:
            self.running.remove(seq)
            self._rows_changed = True
            self._slots.leave(seq.slot)
            for flight in self._in_flight.values():
                flight.thinned = True
        else:
            self.waiting.remove(seq)
        self.space.release(seq)
        seq.status = Status.FINISHED
        siblings = self._siblings[seq.request_id]
        siblings.remove(seq)
        if not siblings:
            del self._siblings[seq.request_id]
