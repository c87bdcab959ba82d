"""An AsyncEngine whose model says the prompt's words back in capitals: deterministic, immediate, observable."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from octavo.base.errors import ChatTemplateError, PromptTooLongError
from octavo.base.sampling import SamplingParams
from octavo.base.types import Delta, EngineStats, FinishReason, ModelInfo, TokenLogprobs

CONTEXT = 64


class FakeEngine:
    """Token ids are characters' code points. Each answer is the upper-cased prompt, one character a Delta."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s
        self.alive = True
        self.closed = 0
        self.open_streams = 0
        self.started = 0
        self.fail_after: int | None = None
        self.finish_reason: FinishReason = "length"
        self.stop_reason: int | str | None = None
        self.raise_after: int | None = None
        self.encoded_in: list[threading.Thread] = []
        self.info = ModelInfo("fake", "fake", 1_000_000, CONTEXT, 0x110000, "F32", "fp-test")

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        self.encoded_in.append(threading.current_thread())
        return [ord(c) for c in text]

    def decode(self, token_ids: Sequence[int]) -> str:
        return "".join(chr(i) for i in token_ids)

    def token_text(self, token_id: int) -> str:
        return chr(token_id)

    def token_bytes(self, token_id: int) -> bytes:
        return chr(token_id).encode()

    special_token_ids: frozenset[int] = frozenset({0})

    def encode_spans(self, text: str, *, add_special_tokens: bool = True) -> list[tuple[int, int, int]]:
        return [(ord(c), at, at + 1) for at, c in enumerate(text)]

    def chat_template_source(self, *, tools: bool = False) -> str:
        return "<think></think><tool_call>"

    def render_chat_text(
        self, messages: Sequence[Mapping[str, Any]], *, tools: Sequence[Mapping[str, Any]] | None = None
    ) -> str:
        return str(messages[-1]["content"])

    def render_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        variables: Mapping[str, Any] | None = None,
    ) -> list[int]:
        self.last_chat, self.last_tools = list(messages), tools
        if not messages:
            raise ChatTemplateError("messages is empty.", param="messages")
        return self.encode(str(messages[-1]["content"]))

    def shouted(self, text: str) -> str:
        return text.upper()

    def default_sampling(self) -> Mapping[str, Any]:
        return {"temperature": 0.5}

    async def stats(self) -> EngineStats:
        return EngineStats(num_running=self.open_streams, kv_pages_total=10)

    async def close(self) -> None:
        self.closed += 1

    async def generate(
        self,
        prompt: str | Sequence[int],
        sampling: SamplingParams,
        *,
        request_id: str | None = None,
        priority: int = 0,
        cache_salt: str | None = None,
        marks: Sequence[str] = (),
    ) -> AsyncIterator[Delta]:
        ids = self.encode(prompt) if isinstance(prompt, str) else list(prompt)
        if len(ids) >= CONTEXT:
            raise PromptTooLongError(len(ids), CONTEXT)
        self.last_sampling, self.last_marks = sampling, tuple(marks)
        answer = self.shouted(self.decode(ids))[: sampling.max_tokens or CONTEXT - len(ids)]
        self.open_streams += 1
        self.started += 1
        try:
            for at, char in enumerate(answer):
                for index in range(sampling.n):
                    await asyncio.sleep(self.delay_s)
                    if self.raise_after is not None and at >= self.raise_after:
                        raise ValueError("a bug in the engine")
                    if self.fail_after is not None and at >= self.fail_after:
                        yield Delta("r", index, "", (), finish_reason="error", error="The engine process has ended.")
                        return
                    yield self._delta(index, char, at, ids, sampling, last=at == len(answer) - 1)
        finally:
            self.open_streams -= 1

    def _delta(self, index: int, char: str, at: int, ids: list[int], sampling: SamplingParams, *, last: bool) -> Delta:
        entry = TokenLogprobs(ord(char), -0.25, 1, (ord(char),), (-0.25,))
        prompt_entries = ()
        if sampling.prompt_logprobs is not None and at == 0:
            prompt_entries = tuple(TokenLogprobs(i, -0.5, 1, (i,), (-0.5,)) for i in ids[1:])
        return Delta(
            request_id="r",
            index=index,
            text=char,
            token_ids=(ord(char),),
            logprobs=(entry,) if sampling.logprobs is not None else (),
            prompt_logprobs=prompt_entries,
            finish_reason=self.finish_reason if last else None,
            stop_reason=self.stop_reason if last else None,
            num_prompt_tokens=len(ids),
            num_cached_tokens=2,
            num_output_tokens=at + 1,
        )


class EchoEngine(FakeEngine):
    """Says the prompt back as it is."""

    def shouted(self, text: str) -> str:
        return text
