"""Frontend: open requests, their streams of text, and nothing else.

Checks what is asked, draws seeds, turns the client's token events into Deltas, and sees to it that every completion
ends in exactly one terminal Delta, also when the engine dies or the caller walks away. Knows no HTTP, no files.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from functools import partial

from octavo.base.errors import EngineDeadError, InvalidRequestError
from octavo.base.sampling import MAX_LOGPROBS, SamplingParams
from octavo.base.types import CompletionName, Delta, EngineLimits, EngineStats, Request, StepEvents
from octavo.engine.asking import bad_word_ids, check_prompt, check_sampling
from octavo.engine.client import EngineClient, SteppingClient
from octavo.engine.stream import Completion, Stream, TextSource
from octavo.text.detokenizer import Detokenizer
from octavo.text.tokenizer import Tokenizer


class Frontend:
    """The face of one engine. Not thread-safe: one thread or one event loop at a time.

    `eos_token_ids` end a generation unless ignore_eos; `max_logprobs` caps logprobs (-1: no cap); `seed` makes the
    seeds that are drawn for requests without one a fixed series.
    """

    def __init__(
        self,
        client: EngineClient,
        tokenizer: Tokenizer,
        limits: EngineLimits,
        *,
        eos_token_ids: Sequence[int],
        max_logprobs: int = MAX_LOGPROBS,
        seed: int | None = None,
    ) -> None:
        self._client = client
        self._tokenizer = tokenizer
        self._limits = limits
        self._eos_token_ids = tuple(eos_token_ids)
        self._max_logprobs = max_logprobs
        self._seeds = random.Random(seed)
        self._streams: dict[str, Stream] = {}
        # The engine knows a request by an id that is never used again: the end of an aborted request may still be on
        # its way here when the caller asks for another of the same name.
        self._routes: dict[str, Stream] = {}
        self._numbers = itertools.count()
        self._lineup: tuple[CompletionName, ...] = ()  # of the last step, and whose they are
        self._lined_up: list[Completion | None] = []
        self._pump: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        return self._client.alive

    @property
    def num_open(self) -> int:
        """Requests that are not finished."""
        return len(self._streams)

    # ------------------------------------------------------------ asking

    def prepare(
        self,
        prompt_ids: Sequence[int],
        sampling: SamplingParams,
        *,
        request_id: str | None = None,
        priority: int = 0,
        cache_salt: str | None = None,
    ) -> Request:
        """A request that can be served, with a seed and an id.

        Raises:
            InvalidRequestError: what is asked does not fit the model, or the id is in use.
            PromptTooLongError: the prompt leaves no room for an answer.
        """
        if request_id is None:
            request_id = uuid.uuid4().hex
        self._check_id(request_id)
        check_prompt(prompt_ids, self._limits)
        check_sampling(sampling, len(prompt_ids), self._limits, self._max_logprobs)
        words = sampling.bad_words or ()
        seed = sampling.seed if sampling.seed is not None else self._seeds.getrandbits(63)
        return Request(
            request_id=request_id,
            prompt_ids=tuple(prompt_ids),
            sampling=sampling.clone(seed=seed),
            eos_token_ids=self._eos_token_ids,
            bad_word_ids=bad_word_ids(words, self._tokenizer, self._limits.vocab_size) if words else (),
            priority=priority,
            cache_salt=cache_salt,
        )

    def open(self, request: Request, marks: Sequence[str] = ()) -> None:
        """Hands a prepared request to the engine; `run` (or `generate`) yields its Deltas. Special tokens that occur in
        `marks` are shown.

        Raises:
            InvalidRequestError: the id has come into use since.
            EngineDeadError: the engine has ended.
        """
        self._check_id(request.request_id)
        make_text = partial(self._text, request, marks) if request.sampling.detokenize else None
        stream = Stream(request, make_text, engine_id=f"{request.request_id}/{next(self._numbers)}")
        self._streams[request.request_id] = stream
        self._routes[stream.engine_id] = stream
        try:
            self._client.add(replace(request, request_id=stream.engine_id))
        except BaseException:
            self.abort(request.request_id)
            raise

    def abort(self, request_id: str) -> None:
        """Ends a request; its stream ends without further Deltas. An unknown one is nothing to do."""
        stream = self._streams.get(request_id)
        if stream is not None:
            self._forget(stream)
            self._client.abort(stream.engine_id)

    def cancel(self, request_id: str) -> None:
        """As `abort`, on behalf of somebody else than who reads the stream: each unfinished completion gets a last
        Delta with the finish reason "abort"."""
        stream = self._streams.get(request_id)
        if stream is not None:
            self.abort(request_id)
            stream.cancel()

    def _forget(self, stream: Stream) -> None:
        stream.closed = True
        del self._streams[stream.request.request_id], self._routes[stream.engine_id]

    def _check_id(self, request_id: str) -> None:
        if request_id in self._streams:
            raise InvalidRequestError(f"A request with the id {request_id!r} is being served.", param="request_id")

    def _text(self, request: Request, marks: Sequence[str]) -> TextSource:
        sampling = request.sampling
        return Detokenizer(
            self._tokenizer,
            skip_special_tokens=sampling.skip_special_tokens,
            spaces_between_special_tokens=sampling.spaces_between_special_tokens,
            marks=marks,
            prompt_ids=request.prompt_ids,
        )

    # ------------------------------------------------------------ in the caller's thread

    def run(self) -> Iterator[Delta]:
        """Steps the engine in this thread until all open requests are done, yielding their Deltas as they come.

        Closing the iterator, or an exception out of a step, ends all of them.
        """
        client = self._client
        assert isinstance(client, SteppingClient), "only an inline engine runs in the caller's thread"
        try:
            while self._streams:
                for stream in self._dispatch(client.step()):
                    while (delta := stream.pop()) is not None:
                        yield delta
        finally:
            for request_id in list(self._streams):
                self.abort(request_id)

    # ------------------------------------------------------------ in an event loop

    def generate(
        self,
        prompt_ids: Sequence[int],
        sampling: SamplingParams,
        *,
        request_id: str | None = None,
        priority: int = 0,
        cache_salt: str | None = None,
        marks: Sequence[str] = (),
    ) -> AsyncIterator[Delta]:
        """Deltas of all completions of one request, interleaved; closing the iterator aborts it.

        Raises:
            InvalidRequestError, PromptTooLongError: at once, see `prepare`.
            EngineDeadError: the engine has ended (at once, or when the iterator is started).
        """
        if not self._client.alive:
            raise EngineDeadError("The engine has ended. Restart the server.")
        request = self.prepare(prompt_ids, sampling, request_id=request_id, priority=priority, cache_salt=cache_salt)
        return self._deltas(request, marks)

    async def _deltas(self, request: Request, marks: Sequence[str]) -> AsyncIterator[Delta]:
        await self._client.start()
        self.open(request, marks)
        stream = self._streams[request.request_id]
        try:
            self._ensure_pump()
            while not stream.done:
                delta = stream.pop()
                if delta is None:
                    await stream.wake.wait()
                else:
                    yield delta
        finally:
            if self._streams.get(request.request_id) is stream:
                self.abort(request.request_id)

    def _ensure_pump(self) -> None:
        """One task per event loop moves events to streams while any stream is open."""
        loop = asyncio.get_running_loop()
        if self._pump is None or self._pump.done() or self._pump.get_loop() is not loop:
            self._pump = loop.create_task(self._move_events(), name="octavo engine events")

    async def _move_events(self) -> None:
        try:
            while self._streams:
                for step in await self._client.events():
                    self._dispatch(step)
        except Exception as e:
            message = str(e) if isinstance(e, EngineDeadError) else f"The engine failed: {e!r}"
            for stream in list(self._streams.values()):
                stream.fail(message)
                self.abort(stream.request.request_id)
            if not isinstance(e, EngineDeadError):
                raise

    def _dispatch(self, step: StepEvents) -> list[Stream]:
        """Gives a step's tokens and events to their streams; returns the streams that have something, in order."""
        if step.lineup is not self._lineup:
            self._lineup = step.lineup
            # streams that the caller has closed get tokens until the engine has heard of it; nobody reads them
            found = [(self._routes.get(request_id), index) for request_id, index in step.lineup]
            self._lined_up = [None if stream is None else stream.completion(index) for stream, index in found]
        touched: dict[Stream, None] = {}
        for completion, token in zip(self._lined_up, step.tokens, strict=True):
            if completion is not None and not (completion.finished or completion.stream.closed):
                stream = completion.stream
                if stream.take_token(completion, token):
                    self._client.abort(stream.engine_id, completion.index)
                    if stream.finished:
                        self._forget(stream)
                touched[stream] = None
        for event in step.events:
            open_stream = self._routes.get(event.request_id)
            if open_stream is None:
                continue  # closed by the caller; the engine had not heard of it yet
            if open_stream.take(event):
                self._client.abort(event.request_id, event.index)
            touched[open_stream] = None
            if open_stream.finished:
                self._forget(open_stream)
        return list(touched)

    async def stats(self) -> EngineStats:
        return await self._client.stats()

    async def close(self) -> None:
        """Ends all open streams with an error, then the engine."""
        for stream in list(self._streams.values()):
            stream.fail("The engine was closed.")
            self._forget(stream)
        if self._pump is not None and self._pump.get_loop() is asyncio.get_running_loop():
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)
        await self._client.close()
