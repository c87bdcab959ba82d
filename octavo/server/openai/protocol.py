"""Request bodies of the OpenAI dialect and how they become SamplingParams.

Every field works, is neutral by OpenAI's own definition (it never changes the answer), or is refused by name.
Source: OpenAI API reference (chat completions, completions); vLLM's extra parameters.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from octavo.base.errors import InvalidRequestError, UnsupportedError
from octavo.base.sampling import MAX_LOGPROBS, SamplingParams

_SAMPLING_FIELDS = frozenset(f.name for f in dataclasses.fields(SamplingParams) if f.init)


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")
    include_usage: bool = False
    continuous_usage_stats: bool = False
    include_obfuscation: bool | None = None


class _Common(BaseModel):
    """Fields that both endpoints share. None means: not given, so the model's own default applies."""

    model_config = ConfigDict(extra="forbid", strict=False)
    model: str | None = None
    n: int | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    # neutral: labels that OpenAI never lets change an answer
    user: str | None = None
    metadata: dict[str, Any] | None = None
    service_tier: Literal["auto", "default"] | None = None
    # vLLM's
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    min_tokens: int | None = None
    stop_token_ids: list[int] | None = None
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None
    bad_words: list[str] | None = None
    allowed_token_ids: list[int] | None = None
    skip_special_tokens: bool | None = None
    spaces_between_special_tokens: bool | None = None
    prompt_logprobs: int | None = None
    add_special_tokens: bool | None = None
    priority: int = 0
    cache_salt: str | None = None
    request_id: str | None = None
    return_token_ids: bool = False

    def sampling(self, defaults: Mapping[str, Any], **overrides: Any) -> SamplingParams:
        """The model's defaults, then the body's fields, then the endpoint's `overrides` (None is skipped)."""
        values = {name: value for name, value in defaults.items() if name in _SAMPLING_FIELDS}
        given = {name: getattr(self, name) for name in _Common.model_fields if name in _SAMPLING_FIELDS}
        for name, value in {**given, **overrides}.items():
            if value is not None:
                values[name] = value
        if self.stream and self.prompt_logprobs is not None:
            raise UnsupportedError("prompt_logprobs cannot be streamed; set stream to false.", param="prompt_logprobs")
        return SamplingParams(**values)


class ChatRequest(_Common):
    messages: list[dict[str, Any]]
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    response_format: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    functions: list[dict[str, Any]] | None = None
    function_call: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    modalities: list[str] | None = None
    store: bool | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    chat_template_kwargs: dict[str, Any] | None = None

    def refuse_unsupported(self) -> None:
        """
        Raises:
            UnsupportedError: a field asks for something this server does not do, by name.
        """
        if self.tools or self.functions:
            name = "tools" if self.tools else "functions"
            raise UnsupportedError("Tool calls are not supported yet: leave out 'tools'.", param=name)
        if self.tool_choice not in (None, "none", "auto"):
            raise UnsupportedError("tool_choice needs tools, which are not supported yet.", param="tool_choice")
        if self.response_format and self.response_format.get("type") != "text":
            raise UnsupportedError(
                f"response_format {self.response_format.get('type')!r} is not supported yet: use 'text'.",
                param="response_format",
            )
        if self.modalities not in (None, ["text"]):
            raise UnsupportedError("Only the modality 'text' is supported.", param="modalities")
        if self.store:
            raise UnsupportedError("Nothing is stored on this server: leave out 'store'.", param="store")

    def chat_sampling(self, defaults: Mapping[str, Any]) -> SamplingParams:
        """SamplingParams of the request; without a limit the answer may fill the context window."""
        if self.top_logprobs is not None and not self.logprobs:
            raise InvalidRequestError("top_logprobs needs logprobs: true.", param="top_logprobs")
        if self.top_logprobs is not None and not 0 <= self.top_logprobs <= MAX_LOGPROBS:
            raise InvalidRequestError(f"top_logprobs must be from 0 to {MAX_LOGPROBS}.", param="top_logprobs")
        logprobs = (self.top_logprobs or 0) if self.logprobs else None
        limit = self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens
        return self.sampling({"max_tokens": None, **defaults}, max_tokens=limit, logprobs=logprobs)


class CompletionRequest(_Common):
    prompt: str | list[int] | list[str] | list[list[int]]
    max_tokens: int | None = None
    logprobs: int | None = None
    echo: bool = False
    best_of: int | None = None
    suffix: str | None = None

    def refuse_unsupported(self) -> None:
        """
        Raises:
            UnsupportedError: a field asks for something this server does not do, by name.
        """
        if self.suffix:
            raise UnsupportedError("suffix (fill in the middle) is not supported yet.", param="suffix")
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise UnsupportedError("best_of other than n is not supported yet.", param="best_of")
        if self.logprobs is not None and not 0 <= self.logprobs <= MAX_LOGPROBS:
            raise InvalidRequestError(f"logprobs must be from 0 to {MAX_LOGPROBS}.", param="logprobs")
        if self.echo and self.stream and self.logprobs is not None:
            raise UnsupportedError("echo with logprobs cannot be streamed; set stream to false.", param="echo")

    def prompts(self) -> list[str | list[int]]:
        """The prompts, one by one.

        Raises:
            InvalidRequestError: no prompt at all.
        """
        if isinstance(self.prompt, str):
            return [self.prompt]
        if not self.prompt:
            raise InvalidRequestError("prompt is empty.", param="prompt")
        if isinstance(self.prompt[0], int):
            return [[int(i) for i in self.prompt if isinstance(i, int)]]
        return [p for p in self.prompt if not isinstance(p, int)]
