"""The typed messages over the border between frontend and engine process, as msgpack; token ids travel packed.

No pickle: a message is decoded into exactly these types or refused.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import msgspec

from octavo.base.config import EngineArgs
from octavo.base.sampling import SamplingParams
from octavo.base.types import (
    CompletionName,
    EngineLimits,
    EngineStats,
    FinishReason,
    ModelInfo,
    Request,
    StepEvents,
    TokenEvent,
    TokenLogprobs,
)


def pack_ids(ids: Sequence[int]) -> bytes:
    """Token ids as 32-bit words in the machine's byte order: both sides are one machine."""
    return array("I", ids).tobytes()


def unpack_ids(data: bytes) -> tuple[int, ...]:
    ids = array("I")
    ids.frombytes(data)
    return tuple(ids)


# ---------------------------------------------------------------- to the engine


class Start(msgspec.Struct, tag="start", array_like=True, frozen=True):
    """The first message: load this."""

    args: EngineArgs


class Add(msgspec.Struct, tag="add", array_like=True, frozen=True):
    """A request; see `Request` for the fields."""

    request_id: str
    prompt_ids: bytes
    sampling: SamplingParams
    eos_token_ids: bytes
    bad_word_ids: tuple[bytes, ...]
    priority: int
    arrival_s: float
    cache_salt: str | None
    adapter: str | None

    @classmethod
    def of(cls, request: Request) -> Add:
        return cls(
            request_id=request.request_id,
            prompt_ids=pack_ids(request.prompt_ids),
            sampling=request.sampling,
            eos_token_ids=pack_ids(request.eos_token_ids),
            bad_word_ids=tuple(pack_ids(word) for word in request.bad_word_ids),
            priority=request.priority,
            arrival_s=request.arrival_s,
            cache_salt=request.cache_salt,
            adapter=request.adapter,
        )

    def request(self) -> Request:
        return Request(
            request_id=self.request_id,
            prompt_ids=unpack_ids(self.prompt_ids),
            sampling=self.sampling,
            eos_token_ids=unpack_ids(self.eos_token_ids),
            bad_word_ids=tuple(unpack_ids(word) for word in self.bad_word_ids),
            priority=self.priority,
            arrival_s=self.arrival_s,
            cache_salt=self.cache_salt,
            adapter=self.adapter,
        )


class Abort(msgspec.Struct, tag="abort", array_like=True, frozen=True):
    """End a request, or one completion of it."""

    request_id: str
    index: int | None = None


class Ask(msgspec.Struct, tag="ask", array_like=True, frozen=True):
    """Answer with a `Beat` of the same number."""

    number: int


ToEngine = Start | Add | Abort | Ask

# ---------------------------------------------------------------- from the engine


class Ready(msgspec.Struct, tag="ready", array_like=True, frozen=True):
    """The model is loaded and requests are served."""

    info: ModelInfo
    limits: EngineLimits


class Failed(msgspec.Struct, tag="failed", array_like=True, frozen=True):
    """Loading failed, or the engine is about to end because of an error; `kind` names a class of the error tree."""

    kind: str
    message: str


class EventRow(msgspec.Struct, array_like=True, frozen=True):
    """A `TokenEvent`; log-probabilities are plain rows (token_id, logprob, rank, top_ids, top_logprobs)."""

    request_id: str
    index: int
    token_ids: bytes
    finish_reason: FinishReason | None
    stop_reason: int | str | None
    num_cached_tokens: int
    error: str | None
    logprobs: tuple[LogprobRow, ...]
    prompt_logprobs: tuple[LogprobRow, ...]

    @classmethod
    def of(cls, event: TokenEvent) -> EventRow:
        return cls(
            request_id=event.request_id,
            index=event.index,
            token_ids=pack_ids(event.token_ids),
            finish_reason=event.finish_reason,
            stop_reason=event.stop_reason,
            num_cached_tokens=event.num_cached_tokens,
            error=event.error,
            logprobs=tuple([LogprobRow.of(entry) for entry in event.logprobs]),
            prompt_logprobs=tuple([LogprobRow.of(entry) for entry in event.prompt_logprobs]),
        )

    def event(self) -> TokenEvent:
        return TokenEvent(
            request_id=self.request_id,
            index=self.index,
            token_ids=unpack_ids(self.token_ids),
            logprobs=tuple([row.logprobs() for row in self.logprobs]),
            prompt_logprobs=tuple([row.logprobs() for row in self.prompt_logprobs]),
            num_cached_tokens=self.num_cached_tokens,
            finish_reason=self.finish_reason,
            stop_reason=self.stop_reason,
            error=self.error,
        )


class LogprobRow(msgspec.Struct, array_like=True, frozen=True):
    """A `TokenLogprobs`."""

    token_id: int
    logprob: float
    rank: int
    top_ids: bytes
    top_logprobs: bytes

    @classmethod
    def of(cls, entry: TokenLogprobs) -> LogprobRow:
        top_logprobs = array("d", entry.top_logprobs).tobytes()
        return cls(entry.token_id, entry.logprob, entry.rank, pack_ids(entry.top_ids), top_logprobs)

    def logprobs(self) -> TokenLogprobs:
        top_logprobs = array("d")
        top_logprobs.frombytes(self.top_logprobs)
        top_ids = unpack_ids(self.top_ids)
        return TokenLogprobs(self.token_id, self.logprob, self.rank, top_ids, tuple(top_logprobs))


class Events(msgspec.Struct, tag="events", array_like=True, frozen=True):
    """What one step yielded for all streams: a `StepEvents`. `number` counts such messages from 0, so that a gap is
    noticed. `lineup` is None where it is that of the message before."""

    number: int
    lineup: tuple[CompletionName, ...] | None
    tokens: bytes
    rows: tuple[EventRow, ...]


class EventsOut:
    """Makes the messages of a series of steps."""

    def __init__(self) -> None:
        self._number = 0
        self._lineup: tuple[CompletionName, ...] = ()

    def message(self, step: StepEvents) -> Events:
        lineup = None if step.lineup is self._lineup else step.lineup
        self._lineup = step.lineup
        rows = tuple([EventRow.of(event) for event in step.events]) if step.events else ()
        number, self._number = self._number, self._number + 1
        return Events(number, lineup, pack_ids(step.tokens), rows)


class EventsIn:
    """Reads them on the other side."""

    def __init__(self) -> None:
        self._number = 0
        self._lineup: tuple[CompletionName, ...] = ()

    def step(self, message: Events) -> StepEvents:
        """
        Raises:
            ConnectionError: a message is missing.
        """
        if message.number != self._number:
            raise ConnectionError(f"events {message.number} came where {self._number} were due")
        self._number += 1
        if message.lineup is not None:
            self._lineup = message.lineup
        tokens = unpack_ids(message.tokens)
        if len(tokens) != len(self._lineup):
            raise ConnectionError(f"{len(tokens)} tokens came for a lineup of {len(self._lineup)}")
        return StepEvents(self._lineup, tokens, [row.event() for row in message.rows])


class Beat(msgspec.Struct, tag="beat", array_like=True, frozen=True):
    """The answer to `Ask`: the engine's loop is turning, and what it has done."""

    number: int
    stats: EngineStats


FromEngine = Ready | Failed | Events | Beat

_ENCODER = msgspec.msgpack.Encoder()
_TO_ENGINE: msgspec.msgpack.Decoder[ToEngine] = msgspec.msgpack.Decoder(ToEngine)
_FROM_ENGINE: msgspec.msgpack.Decoder[FromEngine] = msgspec.msgpack.Decoder(FromEngine)


def encode(message: ToEngine | FromEngine) -> bytes:
    return _ENCODER.encode(message)


def decode_to_engine(frame: bytes) -> ToEngine:
    return _TO_ENGINE.decode(frame)


def decode_from_engine(frame: bytes) -> FromEngine:
    return _FROM_ENGINE.decode(frame)
