"""RequestOutput: what `LLM.generate` returns, with vLLM's names; assembled from Deltas. Knows no engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from octavo.base.errors import OctavoError
from octavo.base.types import Delta, Request, TokenLogprobs


@dataclass(frozen=True)
class Logprob:
    """Natural log-probability of a token, its rank from 1, and its text."""

    logprob: float
    rank: int | None
    decoded_token: str | None


@dataclass
class CompletionOutput:
    """One completion. `logprobs[i]` maps token ids (the chosen one and the best) to Logprob, for output token i."""

    index: int
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    cumulative_logprob: float | None = None
    logprobs: list[dict[int, Logprob]] | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None

    def finished(self) -> bool:
        return self.finish_reason is not None


@dataclass
class RequestOutput:
    """One request's prompt and its `n` completions; grows while it runs when used as a collector of Deltas."""

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    prompt_logprobs: list[dict[int, Logprob] | None] | None = None
    finished: bool = False
    num_cached_tokens: int = 0

    def __post_init__(self) -> None:
        self._num_unfinished = sum(not o.finished() for o in self.outputs)

    @classmethod
    def blank(cls, request_id: str, prompt: str | None, prompt_ids: Sequence[int], n: int) -> RequestOutput:
        """An output with nothing in it yet."""
        return cls(request_id, prompt, list(prompt_ids), [CompletionOutput(i) for i in range(n)])

    @classmethod
    def for_request(cls, request: Request, prompt: str | None) -> RequestOutput:
        return cls.blank(request.request_id, prompt, request.prompt_ids, request.sampling.n)

    def snapshot(self) -> RequestOutput:
        """A copy that later Deltas do not change."""
        outputs = [
            replace(o, token_ids=list(o.token_ids), logprobs=None if o.logprobs is None else list(o.logprobs))
            for o in self.outputs
        ]
        return replace(self, outputs=outputs)

    def add(self, delta: Delta, text_of: Callable[[int], str]) -> None:
        """Takes one Delta in.

        Raises:
            OctavoError: the engine ended this completion with an error.
        """
        if delta.finish_reason == "error":
            raise OctavoError(delta.error or "The engine failed on this request.")
        output = self.outputs[delta.index]
        output.text += delta.text
        output.token_ids.extend(delta.token_ids)
        if delta.logprobs:
            output.logprobs = (output.logprobs or []) + [_by_token(entry, text_of) for entry in delta.logprobs]
            gained = sum(entry.logprob for entry in delta.logprobs)
            output.cumulative_logprob = (output.cumulative_logprob or 0.0) + gained
        if delta.prompt_logprobs:
            known = self.prompt_logprobs or [None]
            self.prompt_logprobs = known + [_by_token(entry, text_of) for entry in delta.prompt_logprobs]
        self.num_cached_tokens = delta.num_cached_tokens
        if delta.finish_reason is not None:
            output.finish_reason = delta.finish_reason
            output.stop_reason = delta.stop_reason
            self._num_unfinished -= 1
            self.finished = self._num_unfinished == 0


def _by_token(entry: TokenLogprobs, text_of: Callable[[int], str]) -> dict[int, Logprob]:
    ranked = {
        token: Logprob(value, rank, text_of(token))
        for rank, (token, value) in enumerate(zip(entry.top_ids, entry.top_logprobs, strict=True), 1)
    }
    ranked.setdefault(entry.token_id, Logprob(entry.logprob, entry.rank, text_of(entry.token_id)))
    return ranked
