"""The values that travel between the layers: Request down, StepPlan down, StepResult up, Delta up.

Plain data, no behaviour beyond what a reader needs to recite them; no tensors, no text processing.
DESIGN: "plan, run, commit": the scheduler makes a StepPlan, an Executor turns it into a StepResult, the scheduler
commits it. All of them can cross a process border as msgpack.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import msgspec

from octavo.base.sampling import SamplingParams

FinishReason = Literal["stop", "length", "abort", "error"]

# ---------------------------------------------------------------- what was asked


@dataclass(frozen=True)
class Request:
    """One prompt to complete `sampling.n` times.

    `prompt_ids` are token ids after the template and the tokenizer. `sampling.seed` has been drawn by the frontend
    where the caller gave none, so the engine is a function of the request. `cache_salt` separates prefix caches of
    tenants. `arrival_s` is the frontend's monotonic clock.
    """

    request_id: str
    prompt_ids: tuple[int, ...]
    sampling: SamplingParams
    eos_token_ids: tuple[int, ...] = ()
    bad_word_ids: tuple[tuple[int, ...], ...] = ()
    priority: int = 0
    arrival_s: float = 0.0
    cache_salt: str | None = None
    adapter: str | None = None


# ---------------------------------------------------------------- plan: scheduler -> executor


@dataclass(frozen=True)
class RowInit:
    """A sequence enters row slot `slot`: everything the runner must know of it, once.

    `token_ids` holds prompt and, after a preemption, what was generated so far; `num_prompt` splits the two.
    """

    slot: int
    token_ids: tuple[int, ...]
    num_prompt: int
    sampling: SamplingParams
    seed: int
    eos_token_ids: tuple[int, ...] = ()
    bad_word_ids: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class RowStep:
    """What one row computes in this step: tokens [start, start + num_tokens) of its record.

    `new_pages[g]` are page ids appended to the table of KV group g; -1 in a window group is a page that the sequence
    never needed or has given back already. Pages that fall out of a window's reach later are given back without a
    word: they may be another sequence's now, so the runner hides every table entry before the reach of `start`.
    The trailing tokens `draft_ids` are speculative. `sample` says that the last position (and each draft's) yields a
    token. `prompt_logprobs_from` is the first position whose successor's log-probability is wanted (-1: none).
    """

    slot: int
    start: int
    num_tokens: int
    new_pages: tuple[tuple[int, ...], ...]
    sample: bool
    draft_ids: tuple[int, ...] = ()
    prompt_logprobs_from: int = -1


@dataclass(frozen=True)
class PageCopy:
    """Copy-on-write: page `src` of a group to page `dst`, before the forward."""

    src: int
    dst: int


class StepPlan(msgspec.Struct, frozen=True):
    """What one step computes: a difference against the row slots the runner already holds.

    `decodes` are slots whose rows advance by the one token that they sampled last, whatever it was, and sample the
    next; the tuple is the same object from step to step while the same rows advance. `decode_pages` are their new
    pages, (slot, `RowStep.new_pages`) for those that get any. `rows` are all others: prompts, drafts.

    Order of effects: `free_slots` are cleared, `new_rows` enter, `zero_pages` are cleared, `copies` run, then the
    tokens of all rows are computed together.
    """

    step_id: int
    rows: tuple[RowStep, ...]
    new_rows: tuple[RowInit, ...] = ()
    free_slots: tuple[int, ...] = ()
    zero_pages: tuple[int, ...] = ()
    copies: tuple[PageCopy, ...] = ()
    decodes: tuple[int, ...] = ()
    decode_pages: tuple[tuple[int, tuple[tuple[int, ...], ...]], ...] = ()

    @property
    def num_tokens(self) -> int:
        return len(self.decodes) + sum(row.num_tokens for row in self.rows)


# ---------------------------------------------------------------- result: executor -> scheduler


@dataclass(frozen=True)
class TokenLogprobs:
    """Log-probability of one token and of the best alternatives, natural logarithm, before any control acts.

    `rank` is the token's place among all, from 1; `top_ids` are in falling order.
    """

    token_id: int
    logprob: float
    rank: int
    top_ids: tuple[int, ...] = ()
    top_logprobs: tuple[float, ...] = ()


@dataclass(frozen=True)
class RowResult:
    """What a row yielded: `token_ids` sampled (several where drafts were accepted, none in mid-prompt).

    `error`: there was no token to sample after these, because the sequence's own controls forbid all, or because the
    logits are not numbers.
    """

    slot: int
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...] = ()
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()
    error: str | None = None


class StepResult(msgspec.Struct, frozen=True):
    """The rows of StepPlan `step_id`, in its order, and the token that each of its decodes sampled.

    A decode that samples nothing has a negative number there and its reason in `errors`. `logprobs` has the entry of
    every decode whose request wants them. Both go by slot.
    """

    step_id: int
    rows: tuple[RowResult, ...]
    elapsed_s: float = 0.0
    tokens: Sequence[int] = ()
    logprobs: Mapping[int, TokenLogprobs] = {}
    errors: Mapping[int, str] = {}


class Ticket(Protocol):
    """A submitted step. Opaque to the scheduler."""

    @property
    def step_id(self) -> int: ...


class Executor(Protocol):
    """Runs plans. At most two may be in flight: a plan names tokens by the slot that sampled them, so the next one may
    be submitted before the tokens of the last are known."""

    def submit(self, plan: StepPlan) -> Ticket:
        """Begins a step, or lets it wait for the one in flight; other workers may compute until it is collected.

        Raises what the plan's execution raises; the step is not in flight then."""

    def provide(self, ticket: Ticket, masks: Mapping[int, bytes]) -> None:
        """Grammar masks by row slot (bit i of a little-endian bit string allows token i); the forward never waits
        for them, only the sampler does."""

    def collect(self, ticket: Ticket) -> StepResult:
        """Waits for the step, whose computation the caller joins, and samples. The step is out of flight, also if
        this raises."""

    def close(self) -> None: ...


# ---------------------------------------------------------------- what the engine is told about the model


@dataclass(frozen=True)
class KvGroup:
    """Layers that share a page table: how long their tokens must be kept.

    `window` is the number of most recent tokens that later tokens may attend to; None means all.
    """

    name: str
    window: int | None = None


@dataclass(frozen=True)
class EngineLimits:
    """What the scheduler needs to know of the hardware plan and the model: numbers only."""

    num_pages: int  # of the one pool that all groups share
    page_size: int  # tokens per page
    groups: tuple[KvGroup, ...]
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    vocab_size: int
    max_samples: int = 0  # most positions of one step whose logits may be wanted; 0: max_num_batched_tokens
    enable_prefix_caching: bool = True


# ---------------------------------------------------------------- what came out


@dataclass(frozen=True)
class TokenEvent:
    """Engine core -> frontend: new tokens of completion `index` of a request; the last one has a finish reason.

    `stop_reason` is the stop token id that ended it (None for an end-of-sequence token or a limit).
    `num_cached_tokens` counts since the sequence entered.
    """

    request_id: str
    index: int
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...] = ()
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()
    num_cached_tokens: int = 0
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None
    error: str | None = None


CompletionName = tuple[str, int]  # request id, completion index


class StepEvents(msgspec.Struct, frozen=True):
    """What one step yielded, for all streams: one token each for the completions of `lineup`, of which there is no more
    to say, then `events`. The lineup is the same object from step to step while the same completions advance.
    """

    lineup: tuple[CompletionName, ...] = ()
    tokens: Sequence[int] = ()
    events: Sequence[TokenEvent] = ()

    def __len__(self) -> int:
        return len(self.tokens) + len(self.events)

    def __iter__(self) -> Iterator[TokenEvent]:
        """All of it as single events."""
        for (request_id, index), token in zip(self.lineup, self.tokens, strict=True):
            yield TokenEvent(request_id, index, (token,))
        yield from self.events


class Delta(msgspec.Struct, frozen=True):
    """Frontend -> caller: new text and tokens of completion `index`. (A struct because there is one for every token.)

    Every completion ends in exactly one Delta with a `finish_reason`. `text` never splits a character, and holds back
    what may yet become a stop string. Counts are of the whole request so far.
    """

    request_id: str
    index: int
    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[TokenLogprobs, ...] = ()
    prompt_logprobs: tuple[TokenLogprobs, ...] = ()
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_output_tokens: int = 0
    error: str | None = None


@dataclass(frozen=True)
class EngineStats:
    """A snapshot for metrics: gauges now, counters since the start."""

    num_running: int = 0
    num_waiting: int = 0
    kv_pages_used: int = 0
    kv_pages_total: int = 0
    num_preemptions: int = 0
    prompt_tokens: int = 0
    cached_prompt_tokens: int = 0
    generation_tokens: int = 0
    num_steps: int = 0
    step_seconds: float = 0.0


@dataclass(frozen=True)
class ModelInfo:
    """What a server may say about the model it serves."""

    name: str
    architecture: str
    num_parameters: int
    max_model_len: int
    vocab_size: int
    weight_format: str
    fingerprint: str
    details: Mapping[str, Any] = field(default_factory=dict)


class AsyncEngine(Protocol):
    """What a server is given: prompts in, Deltas out. `AsyncLLM` implements it; the server imports only this."""

    @property
    def info(self) -> ModelInfo: ...

    @property
    def alive(self) -> bool: ...

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]: ...

    def decode(self, token_ids: Sequence[int]) -> str: ...

    def token_text(self, token_id: int) -> str: ...

    def token_bytes(self, token_id: int) -> bytes: ...

    @property
    def special_token_ids(self) -> frozenset[int]:
        """Tokens that are not part of a text: they begin and end things."""

    def encode_spans(self, text: str, *, add_special_tokens: bool = True) -> list[tuple[int, int, int]]:
        """(token id, first character, the one after the last) of each token; special tokens that were added are
        empty."""

    def chat_template_source(self, *, tools: bool = False) -> str:
        """The chat template's text; "" where the model has none."""

    def render_chat_text(
        self, messages: Sequence[Mapping[str, Any]], *, tools: Sequence[Mapping[str, Any]] | None = None
    ) -> str:
        """The prompt that a conversation becomes."""

    def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        variables: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """Token ids of the rendered chat template."""

    def generate(
        self,
        prompt: str | Sequence[int],
        sampling: SamplingParams,
        *,
        request_id: str | None = None,
        priority: int = 0,
        cache_salt: str | None = None,
        marks: Sequence[str] = (),
    ) -> AsyncIterator[Delta]:
        """Deltas of all completions, interleaved. `marks` are texts whose special tokens are shown, whatever
        `skip_special_tokens` says. Raises InvalidRequestError (before the first Delta) for a prompt
        that cannot be served. Closing the iterator aborts the request and frees its pages in the same step."""

    def default_sampling(self) -> Mapping[str, Any]:
        """The model's own sampling defaults (generation_config.json), by SamplingParams field."""

    async def stats(self) -> EngineStats: ...

    async def close(self) -> None: ...
