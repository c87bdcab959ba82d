"""Streams of Deltas: several merged into one, the first pulled early, all collected. Knows no dialect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from octavo.base.errors import OctavoError
from octavo.base.types import AsyncEngine, Delta, FinishReason, TokenLogprobs
from octavo.text.answer import AnswerReader, Part


class CompletionFailedError(OctavoError):
    """A completion ended with an error after it had begun."""


@dataclass
class Completion:
    """One finished (or growing) completion."""

    text: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprobs] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    stop_reason: int | str | None = None

    def add(self, delta: Delta) -> None:
        self.text.append(delta.text)
        self.token_ids.extend(delta.token_ids)
        self.logprobs.extend(delta.logprobs)
        self.prompt_logprobs.extend(delta.prompt_logprobs)
        if delta.finish_reason is not None:
            self.finish_reason = delta.finish_reason
            self.stop_reason = delta.stop_reason


@dataclass
class Usage:
    """Token counts over all prompts of a request, kept as Deltas pass."""

    by_prompt: dict[int, tuple[int, int, dict[int, int]]] = field(default_factory=dict)

    def add(self, prompt: int, delta: Delta) -> None:
        _, _, outputs = self.by_prompt.get(prompt, (0, 0, {}))
        outputs[delta.index] = outputs.get(delta.index, 0) + len(delta.token_ids)
        self.by_prompt[prompt] = (delta.num_prompt_tokens, delta.num_cached_tokens, outputs)

    @property
    def prompt_tokens(self) -> int:
        return sum(count for count, _, _ in self.by_prompt.values())

    @property
    def cached_tokens(self) -> int:
        return sum(count for _, count, _ in self.by_prompt.values())

    @property
    def completion_tokens(self) -> int:
        return sum(sum(outputs.values()) for _, _, outputs in self.by_prompt.values())


def token_shown(engine: AsyncEngine, token_id: int) -> tuple[str, bytes]:
    """One token's own text and bytes; a part of a character is shown as a replacement character."""
    raw = engine.token_bytes(token_id) or engine.token_text(token_id).encode()
    return raw.decode("utf-8", "replace"), raw


def failure(delta: Delta) -> CompletionFailedError:
    """The error of a Delta whose finish reason is "error"."""
    return CompletionFailedError(delta.error or "The engine failed on this request.")


async def merged(streams: Sequence[AsyncIterator[Delta]]) -> AsyncIterator[tuple[int, Delta]]:
    """(stream number, Delta) of all streams as they come; closing this closes all of them.

    A slow consumer holds the streams back: one item of each waits here at most, beside one in its hands.
    Raises the first exception of any stream, after closing the others.
    """
    if len(streams) == 1:
        try:
            async for delta in streams[0]:
                yield 0, delta
        finally:
            await close(streams[0])
        return
    queue: asyncio.Queue[tuple[int, Delta | BaseException | None]] = asyncio.Queue(len(streams))
    tasks = [asyncio.create_task(_pump(i, stream, queue)) for i, stream in enumerate(streams)]
    open_streams = len(streams)
    try:
        while open_streams:
            number, item = await queue.get()
            if item is None:
                open_streams -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield number, item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pump(
    number: int, stream: AsyncIterator[Delta], queue: asyncio.Queue[tuple[int, Delta | BaseException | None]]
) -> None:
    try:
        async for delta in stream:
            await queue.put((number, delta))
        await queue.put((number, None))
    except Exception as e:
        await queue.put((number, e))
    finally:
        await close(stream)


async def answer_parts(
    reader: AnswerReader, stream: AsyncIterator[tuple[int, Delta]]
) -> AsyncIterator[tuple[Delta, list[Part]]]:
    """(Delta, what it adds to the answer) of one completion, the last one included.

    Raises:
        CompletionFailedError: the completion ended with an error.
    """
    try:
        async for _, delta in stream:
            if delta.finish_reason == "error":
                raise failure(delta)
            yield delta, reader.feed(delta.text, last=delta.finish_reason is not None)
    finally:
        await close(stream)


async def close(stream: object) -> None:
    """Closes an asynchronous iterator now, where it can be closed: an abandoned one runs on until it is collected."""
    aclose = getattr(stream, "aclose", None)
    if aclose is not None:
        await aclose()


async def begun(stream: AsyncIterator[tuple[int, Delta]]) -> AsyncIterator[tuple[int, Delta]]:
    """The same stream once its first Delta is there: what the engine refuses is raised here, before any answer.

    Raises:
        CompletionFailedError: the first thing that comes is an error.
    """
    first = await anext(stream, None)
    if first is not None and first[1].finish_reason == "error":
        await close(stream)
        raise failure(first[1])

    async def rest() -> AsyncIterator[tuple[int, Delta]]:
        try:
            if first is not None:
                yield first
            async for item in stream:
                yield item
        finally:
            await close(stream)

    return rest()


async def without_output(stream: AsyncIterator[tuple[int, Delta]]) -> AsyncIterator[tuple[int, Delta]]:
    """The same stream without the tokens that were generated: only prompts were asked about."""
    try:
        async for number, delta in stream:
            reason: FinishReason | None = delta.finish_reason and ("error" if delta.error else "length")
            yield (
                number,
                replace(delta, text="", token_ids=(), logprobs=(), finish_reason=reason, stop_reason=None),
            )
    finally:
        await close(stream)


async def collected(stream: AsyncIterator[tuple[int, Delta]], usage: Usage) -> dict[tuple[int, int], Completion]:
    """All completions by (prompt number, completion index), in order.

    Raises:
        CompletionFailedError: a completion ended with an error.
    """
    done: dict[tuple[int, int], Completion] = {}
    try:
        async for prompt, delta in stream:
            usage.add(prompt, delta)
            done.setdefault((prompt, delta.index), Completion()).add(delta)
            if delta.finish_reason == "error":
                raise failure(delta)
    finally:
        await close(stream)
    return dict(sorted(done.items()))
