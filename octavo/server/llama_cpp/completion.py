"""POST /completion: one result, or a list of them for several prompts; a stream of pieces on request."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from octavo.base.sampling import SamplingParams
from octavo.base.types import AsyncEngine, Delta
from octavo.server.context import ServerContext
from octavo.server.http import aside, event, event_stream, json_response, read_json, until_disconnect
from octavo.server.llama_cpp import shapes
from octavo.server.llama_cpp.protocol import CompletionBody, completion_body
from octavo.server.streams import Completion, begun, close, failure, merged, without_output


async def completion(request: Request) -> Response:
    context = ServerContext.of(request)
    body = completion_body(await read_json(request, context.settings.max_body_bytes))
    engine = context.engine
    prompts = await aside(len(str(body.prompt)), lambda: body.prompts(engine.encode))
    sampling = body.sampling(engine.default_sampling(), lambda text: engine.encode(text, add_special_tokens=False))
    salt = None if body.cache_prompt else uuid.uuid4().hex  # nobody else's prefixes are read
    clock = shapes.Clock()
    streams = [context.observed(engine.generate(ids, sampling, cache_salt=salt), sampling.n) for ids in prompts]
    stream = merged(streams)
    if body.only_prompt:
        stream = without_output(stream)
    results = _Results(context, body, sampling, prompts, clock)
    if body.stream:
        started = await until_disconnect(request, begun(stream))
        return event_stream(_events(results, started), shapes.error_body)
    done = await until_disconnect(request, _all(results, stream))
    return json_response(done[0] if len(done) == 1 else done)


class _Results:
    """What is told of each completion, as it grows and at its end."""

    def __init__(
        self,
        context: ServerContext,
        body: CompletionBody,
        sampling: SamplingParams,
        prompts: list[list[int]],
        clock: shapes.Clock,
    ) -> None:
        self._engine: AsyncEngine = context.engine
        self._model = context.served_name(body.model)
        self._body, self._sampling, self._prompts, self._clock = body, sampling, prompts, clock
        self._growing: dict[int, Completion] = {}

    def add(self, prompt: int, delta: Delta) -> tuple[int, Completion]:
        """Notes a Delta; the number of its completion, and what there is of that."""
        if delta.finish_reason == "error":
            raise failure(delta)
        self._clock.saw(delta)
        number = prompt * self._sampling.n + delta.index
        completion = self._growing.setdefault(number, Completion())
        completion.add(delta)
        return number, completion

    def piece(self, number: int, completion: Completion, delta: Delta) -> dict[str, Any]:
        """A part of a stream."""
        body = {
            "index": number,
            "content": delta.text,
            "tokens": list(delta.token_ids),
            "stop": False,
            "id_slot": -1,
            "tokens_predicted": len(completion.token_ids),
            "tokens_evaluated": delta.num_prompt_tokens,
        }
        if self._sampling.logprobs is not None:
            body["completion_probabilities"] = shapes.probabilities(self._engine, delta.logprobs)
        return body

    def whole(self, number: int, completion: Completion, last: Delta) -> dict[str, Any]:
        """A result. In a stream its text has been sent before."""
        text = "".join(completion.text)
        prompt = self._prompts[number // self._sampling.n]
        body: dict[str, Any] = {
            "index": number,
            "content": "" if self._body.stream else text,
            "tokens": completion.token_ids if self._body.return_tokens and not self._body.stream else [],
            "id_slot": -1,
            "stop": True,
            "model": self._model,
            "tokens_predicted": len(completion.token_ids),
            "tokens_evaluated": last.num_prompt_tokens,
            "generation_settings": self._settings(),
            "prompt": self._engine.decode(prompt),
            "has_new_line": "\n" in text,
            "truncated": False,
            **shapes.stop_facts(completion.finish_reason, completion.stop_reason),
            "tokens_cached": last.num_prompt_tokens + len(completion.token_ids),
            "timings": self._clock.timings(last),
        }
        if self._sampling.logprobs is not None and not self._body.stream:
            body["completion_probabilities"] = shapes.probabilities(self._engine, completion.logprobs)
        return body

    def _settings(self) -> dict[str, Any]:
        sampling = self._sampling
        return {
            "n_ctx": self._engine.info.max_model_len,
            "n_predict": self._body.n_predict,
            "seed": -1 if sampling.seed is None else sampling.seed,
            "temperature": sampling.temperature,
            "top_k": sampling.top_k,
            "top_p": sampling.top_p,
            "min_p": sampling.min_p,
            "repeat_penalty": sampling.repetition_penalty,
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
            "stop": list(sampling.stop_strings),
            "ignore_eos": sampling.ignore_eos,
            "n_probs": sampling.logprobs or 0,
            "stream": self._body.stream,
        }


async def _all(results: _Results, stream: AsyncIterator[tuple[int, Delta]]) -> list[dict[str, Any]]:
    done: dict[int, dict[str, Any]] = {}
    try:
        async for prompt, delta in stream:
            number, completion = results.add(prompt, delta)
            if delta.finish_reason is not None:
                done[number] = results.whole(number, completion, delta)
    finally:
        await close(stream)
    return [done[number] for number in sorted(done)]


async def _events(results: _Results, stream: AsyncIterator[tuple[int, Delta]]) -> AsyncIterator[bytes]:
    try:
        async for prompt, delta in stream:
            number, completion = results.add(prompt, delta)
            if delta.text or delta.token_ids:
                yield event(results.piece(number, completion, delta))
            if delta.finish_reason is not None:
                yield event(results.whole(number, completion, delta))
    finally:
        await close(stream)
