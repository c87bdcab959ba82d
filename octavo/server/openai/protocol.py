"""Request bodies of the OpenAI dialect and how they become SamplingParams.

Every field works, is neutral by OpenAI's own definition (it never changes the answer), or is refused by name. A null
is the same as an absent field. Source: OpenAI API reference (chat completions, completions); vLLM's extra parameters.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict

from octavo.base.errors import InvalidRequestError, UnsupportedError
from octavo.base.messages import plain_tools
from octavo.base.sampling import MAX_LOGPROBS, SamplingParams
from octavo.server.http import validated

MAX_PROMPTS = 1024  # of one request
_SAMPLING_FIELDS = frozenset(f.name for f in dataclasses.fields(SamplingParams) if f.init)

# Fields that clients of OpenAI and vLLM send and that are not done here: the values that ask for nothing, and a hint.
_NOT_DONE: dict[str, tuple[tuple[object, ...], str]] = {
    "audio": ((), ""),
    "chat_template": ((), "; start the server with --chat-template"),
    "documents": ((), ""),
    "guided_choice": ((), ""),
    "guided_grammar": ((), ""),
    "guided_json": ((), ""),
    "guided_regex": ((), ""),
    "kv_transfer_params": ((), ""),
    "length_penalty": ((1.0,), ""),
    "logits_processors": ((), ""),
    "mm_processor_kwargs": ((), ""),
    "moderation": ((), ""),
    "prediction": ((), ""),
    "prompt_embeds": ((), ""),
    "reasoning_effort": ((), "; templates that know such a switch take it in chat_template_kwargs"),
    "return_tokens_as_token_ids": ((False,), "; return_token_ids gives the ids"),
    "structured_outputs": ((), ""),
    "truncate_prompt_tokens": ((), ""),
    "use_beam_search": ((False,), ""),
    "verbosity": (("medium",), ""),
    "vllm_xargs": ((), ""),
    "web_search_options": ((), ""),
}


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]  # 2.0 is an integer in JSON; true and "2" are not


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    include_usage: bool = False
    continuous_usage_stats: bool = False
    include_obfuscation: bool = False  # neutral: padding against eavesdroppers, which OpenAI lets a server leave out


class Common(BaseModel):
    """Fields that both endpoints share. None means: not given, so the model's own default applies."""

    model_config = ConfigDict(extra="forbid", strict=True)
    model: str | None = None
    n: Whole | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    seed: Whole | None = None
    stop: str | list[str] | None = None
    # neutral: labels and hints that OpenAI never lets change an answer
    user: str | None = None
    metadata: dict[str, Any] | None = None
    service_tier: Literal["auto", "default"] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    prompt_cache_retention: str | None = None
    # vLLM's
    top_k: Whole | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    min_tokens: Whole | None = None
    stop_token_ids: list[Whole] | None = None
    include_stop_str_in_output: bool | None = None
    ignore_eos: bool | None = None
    bad_words: list[str] | None = None
    allowed_token_ids: list[Whole] | None = None
    skip_special_tokens: bool | None = None
    spaces_between_special_tokens: bool | None = None
    prompt_logprobs: Whole | None = None
    priority: Whole = 0
    cache_salt: str | None = None
    request_id: str | None = None
    return_token_ids: bool = False

    @classmethod
    def of(cls, body: dict[str, Any]) -> Self:
        """
        Raises:
            InvalidRequestError: a field that is missing, unknown, ill-typed or contradicts another.
            UnsupportedError: a field that asks for something this server does not do.
        """
        request = validated(cls, _asked(body))
        request.check_stream()
        request._refuse_unsupported()
        return request

    def _refuse_unsupported(self) -> None:
        """Refuses by name what one endpoint does not do."""

    def check_stream(self) -> None:
        """
        Raises:
            InvalidRequestError: fields that contradict `stream`.
        """
        if self.stream_options is not None and not self.stream:
            raise InvalidRequestError("stream_options is only allowed with stream: true.", param="stream_options")
        if self.stream and self.prompt_logprobs is not None:
            raise UnsupportedError("prompt_logprobs cannot be streamed; set stream to false.", param="prompt_logprobs")

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def continuous_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.continuous_usage_stats

    def sampling(self, defaults: Mapping[str, Any], **overrides: Any) -> SamplingParams:
        """The model's defaults, then the body's fields, then the endpoint's `overrides` (None is skipped)."""
        values = {name: value for name, value in defaults.items() if name in _SAMPLING_FIELDS}
        given = {name: getattr(self, name) for name in Common.model_fields if name in _SAMPLING_FIELDS}
        for name, value in {**given, **overrides}.items():
            if value is not None:
                values[name] = value
        return SamplingParams(**values)


class ChatRequest(Common):
    messages: Any  # checked by octavo.base.messages, which LLM.chat shares
    max_tokens: Whole | None = None
    max_completion_tokens: Whole | None = None
    logprobs: bool | None = None
    top_logprobs: Whole | None = None
    response_format: dict[str, Any] | None = None
    tools: Any = None  # checked by octavo.base.messages
    tool_choice: str | dict[str, Any] | None = None
    functions: list[dict[str, Any]] | None = None
    function_call: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    include_reasoning: bool = True
    modalities: list[str] | None = None
    store: bool | None = None
    echo: bool = False
    add_special_tokens: bool = False
    add_generation_prompt: bool = True
    continue_final_message: bool = False
    chat_template_kwargs: dict[str, Any] | None = None

    def _refuse_unsupported(self) -> None:
        if self.functions or self.function_call not in (None, "none", "auto"):
            name = "functions" if self.functions else "function_call"
            raise UnsupportedError(f"{name} is the old form: use tools and tool_choice.", param=name)
        if self.tool_choice not in (None, "none", "auto"):
            raise UnsupportedError(
                "tool_choice must be 'auto' or 'none' on this server: calls cannot be forced yet.", param="tool_choice"
            )
        if self.response_format and self.response_format.get("type") != "text":
            raise UnsupportedError(
                f"response_format {self.response_format.get('type')!r} is not supported yet: use 'text'.",
                param="response_format",
            )
        if self.modalities not in (None, ["text"]):
            raise UnsupportedError("Only the modality 'text' is supported.", param="modalities")
        if self.store:
            raise UnsupportedError("Nothing is stored on this server: leave out 'store'.", param="store")
        if self.echo:
            raise UnsupportedError("echo is not supported for chats: use /v1/completions.", param="echo")
        if self.add_special_tokens:
            raise UnsupportedError(
                "add_special_tokens is not supported for chats: the chat template writes the special tokens.",
                param="add_special_tokens",
            )

    def offered_tools(self) -> list[dict[str, Any]] | None:
        """The tools that may be called; None where there are none.

        Raises:
            InvalidRequestError: an entry that is no function with a name; `param` is its path.
        """
        tools = plain_tools(self.tools)
        return None if self.tool_choice == "none" else tools

    def chat_sampling(self, defaults: Mapping[str, Any]) -> SamplingParams:
        """SamplingParams of the request; without a limit the answer may fill the context window."""
        if self.top_logprobs and not self.logprobs:
            raise InvalidRequestError("top_logprobs needs logprobs: true.", param="top_logprobs")
        _check_number_of_logprobs("top_logprobs", self.top_logprobs)
        logprobs = (self.top_logprobs or 0) if self.logprobs else None
        name = "max_tokens" if self.max_completion_tokens is None else "max_completion_tokens"
        limit = getattr(self, name)
        if limit is not None and limit < 1:
            raise InvalidRequestError(f"{name} must be at least 1, got {limit}.", param=name)
        return self.sampling({"max_tokens": None, **defaults}, max_tokens=limit, logprobs=logprobs)


class CompletionRequest(Common):
    prompt: Any
    max_tokens: Whole | None = None
    logprobs: Whole | None = None
    echo: bool = False
    best_of: Whole | None = None
    suffix: str | None = None
    add_special_tokens: bool = True

    def _refuse_unsupported(self) -> None:
        if self.suffix:
            raise UnsupportedError("suffix (fill in the middle) is not supported yet.", param="suffix")
        if self.best_of is not None and self.best_of != (self.n or 1):
            raise UnsupportedError("best_of other than n is not supported yet.", param="best_of")
        _check_number_of_logprobs("logprobs", self.logprobs)
        if self.echo and self.stream and self.logprobs is not None:
            raise UnsupportedError("echo with logprobs cannot be streamed; set stream to false.", param="echo")

    @property
    def only_prompt(self) -> bool:
        """max_tokens of 0: nothing is generated, but the prompt may be echoed, with log-probabilities."""
        return self.max_tokens == 0

    def completion_sampling(self, defaults: Mapping[str, Any]) -> SamplingParams:
        """SamplingParams of the request. The engine always generates a token: where none is asked it is dropped."""
        wants_prompt = self.echo and self.logprobs is not None
        return self.sampling(
            defaults,
            max_tokens=1 if self.only_prompt else self.max_tokens,
            logprobs=self.logprobs,
            prompt_logprobs=self.logprobs if wants_prompt else self.prompt_logprobs,
        )

    def prompts(self) -> list[str | list[int]]:
        """The prompts, one by one.

        Raises:
            InvalidRequestError: none at all, too many, or something that is neither a text nor token ids.
        """
        given = self.prompt
        if isinstance(given, str) or (isinstance(given, list) and given and _all_whole(given)):
            given = [given]
        if not isinstance(given, list) or not given:
            raise InvalidRequestError(
                "prompt must be a text, a list of texts, a list of token ids, or a list of such lists.", param="prompt"
            )
        if len(given) > MAX_PROMPTS:
            raise InvalidRequestError(f"prompt has {len(given)} prompts; at most {MAX_PROMPTS} go.", param="prompt")
        return [_one_prompt(prompt, i) for i, prompt in enumerate(given)]


def _one_prompt(prompt: object, number: int) -> str | list[int]:
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, list) and _all_whole(prompt):
        return [int(i) for i in prompt]
    where = f"prompt[{number}]"
    raise InvalidRequestError(f"{where} must be a text or a list of token ids.", param=where)


def _all_whole(values: list[Any]) -> bool:
    return all(type(_whole(i)) is int for i in values)


def _asked(body: dict[str, Any]) -> dict[str, Any]:
    """The fields that ask for something.

    Raises:
        UnsupportedError: a known field of these APIs that is not done here, by name.
    """
    asked = {}
    for name, value in body.items():
        if value is None:
            continue
        if name in _NOT_DONE:
            neutral, hint = _NOT_DONE[name]
            if not any(value == v and isinstance(value, bool) is isinstance(v, bool) for v in neutral):
                raise UnsupportedError(f"{name} is not supported by this server: leave it out{hint}.", param=name)
        elif isinstance(value, dict) and name == "stream_options":
            asked[name] = {key: option for key, option in value.items() if option is not None}
        else:
            asked[name] = value
    return asked


def _check_number_of_logprobs(name: str, count: int | None) -> None:
    if count is not None and not 0 <= count <= MAX_LOGPROBS:
        raise InvalidRequestError(f"{name} must be from 0 to {MAX_LOGPROBS}.", param=name)
