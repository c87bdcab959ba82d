"""A fake model over faithful pages: each token is a hash of the context that is readable through the page tables.

`FakeRunner` keeps page memory, row slots and tables as a real runner would and computes every value from that memory
alone; `oracle` computes the same function from the plain tokens. Any page mix-up makes the two differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from octavo.base.sampling import SamplingParams
from octavo.base.types import (
    EngineLimits,
    KvGroup,
    Request,
    RowInit,
    RowResult,
    RowStep,
    StepPlan,
    StepResult,
    TokenLogprobs,
)

FULL = KvGroup("full")
_MASK = (1 << 61) - 1


def mix(*values: object) -> int:
    return hash(values) & _MASK


def limits(**changes: object) -> EngineLimits:
    """Small limits of one full group, with some fields changed."""
    values: dict[str, object] = {
        "num_pages": 64,
        "page_size": 4,
        "groups": (FULL,),
        "max_model_len": 128,
        "max_num_seqs": 8,
        "max_num_batched_tokens": 32,
        "vocab_size": 50,
    }
    return EngineLimits(**{**values, **changes})  # type: ignore[arg-type]


def request(request_id: str, prompt: Sequence[int], *, eos: tuple[int, ...] = (), priority: int = 0,
            salt: str | None = None, **sampling: object) -> Request:  # fmt: skip
    """A greedy request with a seed unless told otherwise."""
    params = SamplingParams(**{"temperature": 0.0, "seed": 7, "max_tokens": 8, **sampling})  # type: ignore[arg-type]
    return Request(request_id, tuple(prompt), params, eos_token_ids=eos, priority=priority, cache_salt=salt)


def first_read(position: int, window: int | None) -> int:
    return 0 if window is None else max(0, position - window + 1)


def draw(hidden: int, sampling: SamplingParams, seed: int, position: int, vocab_size: int) -> int:
    noise = 0 if sampling.greedy else mix(seed, position)
    return mix(hidden, noise) % vocab_size


def logprob(hidden: int, token: int) -> TokenLogprobs:
    return TokenLogprobs(token, -(mix(hidden, token) % 1000) / 100, 1 + mix(token, hidden) % 50)


class Oracle:
    """The fake model without pages: hidden values of a growing list of tokens."""

    def __init__(self, groups: Sequence[KvGroup]) -> None:
        self._groups = groups
        self._stored: list[list[int]] = [[] for _ in groups]

    def hidden(self, token: int) -> int:
        position = len(self._stored[0])
        x = mix(token, position)
        for g, group in enumerate(self._groups):
            self._stored[g].append(x)
            x = mix(g, *self._stored[g][first_read(position, group.window) :])
        return x


def oracle(lim: EngineLimits, prompt: Sequence[int], sampling: SamplingParams, seed: int, count: int) -> list[int]:
    """The first `count` tokens that the fake model answers, whatever ends them."""
    model = Oracle(lim.groups)
    x = 0
    for token in prompt:
        x = model.hidden(token)
    out: list[int] = []
    while True:
        out.append(draw(x, sampling, seed, len(prompt) + len(out), lim.vocab_size))
        if len(out) >= count:
            return out
        x = model.hidden(out[-1])


def spelled_out(plan: StepPlan, lengths: Mapping[int, int], num_groups: int) -> StepPlan:
    """The plan with its decodes as ordinary rows, the first of all; `lengths` are those of the records by slot."""
    pages = dict(plan.decode_pages)
    assert len(pages) == len(plan.decode_pages) and set(pages) <= set(plan.decodes)
    none: tuple[tuple[int, ...], ...] = ((),) * num_groups
    decodes = [RowStep(slot, lengths[slot] - 1, 1, pages.get(slot, none), True) for slot in plan.decodes]
    return replace(plan, rows=(*decodes, *plan.rows), decodes=(), decode_pages=())


@dataclass
class _Row:
    init: RowInit
    tokens: list[int]
    tables: list[list[int]] = field(default_factory=list)


class FakeRunner:
    """Runs plans strictly: every broken promise of a plan is an assertion. Keeps the plans it ran, and the same with
    their decodes spelled out."""

    def __init__(self, lim: EngineLimits, *, drafts: bool = False) -> None:
        self.limits = lim
        self.memory: list[list[int | None]] = [[None] * lim.page_size for _ in range(lim.num_pages)]
        self.rows: dict[int, _Row] = {}
        self.plans: list[StepPlan] = []
        self.steps: list[StepPlan] = []
        self.begun: StepPlan | None = None
        self.masks: list[dict[int, bytes]] = []
        self.num_computed = 0
        self.closed = False

    def run(self, plan: StepPlan, masks: Mapping[int, bytes]) -> StepResult:
        self.begin(plan)
        return self.finish(masks)

    def begin(self, plan: StepPlan) -> None:
        assert self.begun is None, "two steps at a time"
        self.plans.append(plan)
        lengths = {slot: len(row.tokens) for slot, row in self.rows.items()}
        self.begun = spelled_out(plan, lengths, len(self.limits.groups))
        self._check(self.begun)
        self.steps.append(self.begun)

    def finish(self, masks: Mapping[int, bytes]) -> StepResult:
        plan, self.begun = self.begun, None
        assert plan is not None
        decodes = self.plans[-1].decodes
        self.masks.append(dict(masks))
        self._changes(plan)
        hidden = self._forward(plan)
        rows = [self._row(step, hidden[step.slot]) for step in plan.rows]
        decoded = rows[: len(decodes)]
        assert [row.slot for row in decoded] == list(decodes)
        logprobs = {row.slot: entry for row in decoded for entry in row.logprobs}
        tokens = [token for row in decoded for token in row.token_ids]
        return StepResult(plan.step_id, tuple(rows[len(decodes) :]), 0.001, tokens, logprobs)

    def close(self) -> None:
        self.closed = True

    def _check(self, plan: StepPlan) -> None:
        lim = self.limits
        assert plan.rows or plan.free_slots
        assert plan.num_tokens <= lim.max_num_batched_tokens, "over the token budget"
        assert len({step.slot for step in plan.rows}) == len(plan.rows) <= lim.max_num_seqs
        assert not self.steps or plan.step_id > self.steps[-1].step_id
        wanted = sum(self._num_samples(plan, step) for step in plan.rows)
        assert wanted <= (lim.max_samples or lim.max_num_batched_tokens), "over the budget of logits"
        self.num_computed += plan.num_tokens

    def _num_samples(self, plan: StepPlan, step: RowStep) -> int:
        """Positions of the row whose logits are wanted."""
        entering = {init.slot: init.num_prompt for init in plan.new_rows}
        num_prompt = entering[step.slot] if step.slot in entering else self.rows[step.slot].init.num_prompt
        count = 1 + len(step.draft_ids) if step.sample else 0
        if step.prompt_logprobs_from >= 0:
            last = min(step.start + step.num_tokens, num_prompt - 1)
            count += max(0, last - max(step.start, step.prompt_logprobs_from))
        return count

    def _changes(self, plan: StepPlan) -> None:
        for slot in plan.free_slots:
            del self.rows[slot]
        for init in plan.new_rows:
            assert init.slot not in self.rows, "a slot in use is given again"
            assert 0 <= init.slot < self.limits.max_num_seqs
            self.rows[init.slot] = _Row(init, list(init.token_ids), [[] for _ in self.limits.groups])
        for page in plan.zero_pages:
            self.memory[page] = [0] * self.limits.page_size
        for copy in plan.copies:
            self.memory[copy.dst] = list(self.memory[copy.src])
        writers: dict[int, int] = {}
        for step in plan.rows:
            row = self.rows[step.slot]
            for table, new in zip(row.tables, step.new_pages, strict=True):
                table.extend(new)
                for index in range(step.start // self.limits.page_size, self._pages(step)):
                    writers.setdefault(table[index], step.slot)
        for step in plan.rows:
            self._check_writers(step, writers)

    def _pages(self, step: RowStep) -> int:
        return -(-(step.start + step.num_tokens) // self.limits.page_size)

    def _check_writers(self, step: RowStep, writers: dict[int, int]) -> None:
        """A page that one row writes in this step is in no other row's reach."""
        row = self.rows[step.slot]
        for group, table in zip(self.limits.groups, row.tables, strict=True):
            first = first_read(step.start, group.window) // self.limits.page_size
            for page in table[first : self._pages(step)]:
                assert writers.get(page, step.slot) == step.slot, f"page {page} is written by two rows"

    def _forward(self, plan: StepPlan) -> dict[int, list[int]]:
        """Group by group as layers are: first all rows store, then all read. Returns the hidden value per token."""
        size = self.limits.page_size
        hidden: dict[int, list[int]] = {}
        for step in plan.rows:
            row = self.rows[step.slot]
            assert step.start + step.num_tokens <= len(row.tokens) + len(step.draft_ids)
            known = row.tokens + list(step.draft_ids)
            span = range(step.start, step.start + step.num_tokens)
            hidden[step.slot] = [mix(known[position], position) for position in span]
        for g, group in enumerate(self.limits.groups):
            for step in plan.rows:
                table = self.rows[step.slot].tables[g]
                for i, x in enumerate(hidden[step.slot]):
                    position = step.start + i
                    assert table[position // size] >= 0
                    self.memory[table[position // size]][position % size] = x
            for step in plan.rows:
                table = self.rows[step.slot].tables[g]
                for i in range(step.num_tokens):
                    position = step.start + i
                    reach = range(first_read(position, group.window), position + 1)
                    seen = [self._read(table[p // size], p % size) for p in reach]
                    hidden[step.slot][i] = mix(g, *seen)
        return hidden

    def _read(self, page: int, offset: int) -> int:
        assert page >= 0, "a page that was given back is read"
        value = self.memory[page][offset]
        assert value, "a token that was never stored is read"
        return value

    def _row(self, step: RowStep, hidden: list[int]) -> RowResult:
        row = self.rows[step.slot]
        prompt_logprobs = []
        if step.prompt_logprobs_from >= 0:
            last = min(step.start + step.num_tokens, row.init.num_prompt - 1)
            for position in range(max(step.start, step.prompt_logprobs_from), last):
                prompt_logprobs.append(logprob(hidden[position - step.start], row.tokens[position + 1]))
        if not step.sample:
            return RowResult(step.slot, (), (), tuple(prompt_logprobs))
        assert step.start + step.num_tokens - len(step.draft_ids) == len(row.tokens), "samples in mid-record"
        out: list[int] = []
        logprobs: list[TokenLogprobs] = []
        for i in range(-1 - len(step.draft_ids), 0):
            x = hidden[i]
            token = draw(x, row.init.sampling, row.init.seed, len(row.tokens), self.limits.vocab_size)
            row.tokens.append(token)
            out.append(token)
            if row.init.sampling.logprobs is not None:
                logprobs.append(logprob(x, token))
            if i < -1 and step.draft_ids[i + 1 + len(step.draft_ids)] != token:
                break
        return RowResult(step.slot, tuple(out), tuple(logprobs), tuple(prompt_logprobs))
