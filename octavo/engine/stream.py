"""Stream: one open request in the frontend; token events in, Deltas out, text and stop strings in between.

Deltas that nobody has fetched yet are merged per completion, so a slow consumer costs no memory per token. Knows no
clients and no loops.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec.structs import replace

from octavo.base.sampling import SamplingParams
from octavo.base.types import Delta, FinishReason, Request, TokenEvent
from octavo.engine.stops import StopMatcher


class TextSource(Protocol):
    """An incremental detokenizer: `octavo.text.detokenizer.Detokenizer`."""

    def push(self, ids: Sequence[int]) -> str: ...

    def finish(self) -> str: ...


class Completion:
    """Text state of one completion. Tokens after its end are dropped here, wherever they come from."""

    __slots__ = (
        "_include_stop", "_min_tokens", "_stops", "_text", "finished", "index", "num_output", "stream",
    )  # fmt: skip

    def __init__(self, stream: Stream, index: int, sampling: SamplingParams, text: TextSource | None) -> None:
        self.stream = stream
        self.index = index
        self._text = text
        self._include_stop = sampling.include_stop_str_in_output
        self._min_tokens = sampling.min_tokens
        self._stops: StopMatcher | None = None
        if sampling.stop_strings:
            self._stops = StopMatcher(sampling.stop_strings, include=self._include_stop)
        self.num_output = 0
        self.finished = False

    def take(self, token_ids: tuple[int, ...], finish: FinishReason | None) -> tuple[str, int, str | None]:
        """Text of the tokens, how many of them count, and the stop string that cut the rest off."""
        # the token that stops is counted; its text is shown only with include_stop_str_in_output
        hide_last = finish == "stop" and not self._include_stop
        pieces: list[str] = []
        num_taken, stop = 0, None
        if self._stops is None:
            shown = token_ids[:-1] if hide_last else token_ids
            num_taken = len(token_ids)
            pieces.append(self._decode(shown))
        else:
            for token in token_ids:
                num_taken += 1
                hidden = hide_last and num_taken == len(token_ids)
                armed = self.num_output + num_taken > self._min_tokens
                text, stop = self._stops.push("" if hidden else self._decode((token,)), armed=armed)
                pieces.append(text)
                if stop is not None:
                    break
        self.num_output += num_taken
        if stop is None and finish is not None:
            pieces.append(self._flush())
        self.finished = finish is not None or stop is not None
        return "".join(pieces), num_taken, stop

    def take_one(self, token: int) -> tuple[str, str | None]:
        """As `take` of a token that is not the last: its text, and the stop string that it completes."""
        text = self._text.push((token,)) if self._text is not None else ""
        self.num_output += 1
        if self._stops is None:
            return text, None
        text, stop = self._stops.push(text, armed=self.num_output > self._min_tokens)
        self.finished = stop is not None
        return text, stop

    def _decode(self, token_ids: Sequence[int]) -> str:
        return self._text.push(token_ids) if self._text is not None else ""

    def _flush(self) -> str:
        rest = self._text.finish() if self._text is not None else ""
        return self._stops.flush() + rest if self._stops is not None else rest


class Stream:
    """One request and its completions; `engine_id` is the engine's name for it. `wake` is set when there is something
    to pop."""

    def __init__(self, request: Request, make_text: Callable[[], TextSource] | None, engine_id: str) -> None:
        self.request = request
        self.engine_id = engine_id
        self.wake = asyncio.Event()
        sampling = request.sampling
        self._completions = [
            Completion(self, i, sampling, make_text() if make_text else None) for i in range(sampling.n)
        ]
        self.closed = False  # nobody is to hear of it any more, or of more than is pending
        self._num_prompt = len(request.prompt_ids)
        self._num_unfinished = sampling.n
        self._num_cached = 0
        self._num_output = 0
        self._pending: dict[int, Delta] = {}

    @property
    def finished(self) -> bool:
        """Whether every completion has had its terminal event (its Delta may still be pending)."""
        return self._num_unfinished == 0

    @property
    def done(self) -> bool:
        """Whether nothing will come out any more."""
        return self.finished and not self._pending

    def completion(self, index: int) -> Completion:
        return self._completions[index]

    def take_token(self, completion: Completion, token: int) -> bool:
        """As `take` of an event that says no more than one token of an unfinished completion."""
        text, stop = completion.take_one(token)
        self._num_output += 1
        self._put(
            Delta(
                request_id=self.request.request_id,
                index=completion.index,
                text=text,
                token_ids=(token,),
                finish_reason=None if stop is None else "stop",
                stop_reason=stop,
                num_prompt_tokens=self._num_prompt,
                num_cached_tokens=self._num_cached,
                num_output_tokens=self._num_output,
            )
        )
        return stop is not None

    def take(self, event: TokenEvent) -> bool:
        """Turns an event into a pending Delta. True: a stop string has ended the completion, the engine is to know."""
        completion = self._completions[event.index]
        if completion.finished:
            return False
        if event.index == 0:
            self._num_cached = event.num_cached_tokens
        text, num_taken, stop = completion.take(event.token_ids, event.finish_reason)
        self._num_output += num_taken
        self._put(
            Delta(
                request_id=self.request.request_id,
                index=event.index,
                text=text,
                token_ids=event.token_ids[:num_taken],
                logprobs=event.logprobs[:num_taken],
                prompt_logprobs=event.prompt_logprobs,
                finish_reason=event.finish_reason if stop is None else "stop",
                stop_reason=event.stop_reason if stop is None else stop,
                num_prompt_tokens=self._num_prompt,
                num_cached_tokens=self._num_cached,
                num_output_tokens=self._num_output,
                error=event.error,
            )
        )
        return stop is not None and event.finish_reason is None

    def fail(self, error: str) -> None:
        """Ends every unfinished completion with an error."""
        self._end("error", error)

    def cancel(self) -> None:
        """Ends every unfinished completion as aborted."""
        self._end("abort", None)

    def _end(self, reason: FinishReason, error: str | None) -> None:
        for index, completion in enumerate(self._completions):
            if not completion.finished:
                self.take(TokenEvent(self.request.request_id, index, (), finish_reason=reason, error=error,
                                     num_cached_tokens=self._num_cached))  # fmt: skip

    def pop(self) -> Delta | None:
        """The next Delta; completions take turns in the order in which they have something."""
        if not self._pending:
            self.wake.clear()
            return None
        return self._pending.pop(next(iter(self._pending)))

    def _put(self, delta: Delta) -> None:
        if delta.finish_reason is not None:
            self._num_unfinished -= 1
        waiting = self._pending.get(delta.index)
        self._pending[delta.index] = delta if waiting is None else _merged(waiting, delta)
        self.wake.set()


def _merged(first: Delta, second: Delta) -> Delta:
    return replace(
        second,
        text=first.text + second.text,
        token_ids=first.token_ids + second.token_ids,
        logprobs=first.logprobs + second.logprobs,
        prompt_logprobs=first.prompt_logprobs + second.prompt_logprobs,
    )
