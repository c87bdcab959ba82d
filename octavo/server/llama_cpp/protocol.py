"""Request bodies of llama.cpp's native API and how they become SamplingParams.

A field works, is neutral (a hint that never changes an answer), or is refused by name; a null is the same as an absent
field. Source: the page of llama.cpp's server.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from octavo.base.errors import InvalidRequestError, UnsupportedError
from octavo.base.sampling import SamplingParams
from octavo.server.http import validated

Encode = Callable[[str], list[int]]

# What llama.cpp samples with where neither the request nor the model says otherwise.
DEFAULTS: dict[str, Any] = {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05}
_RENAMED = {"n_predict": "max_tokens", "repeat_penalty": "repetition_penalty", "n_cmpl": "n", "n_probs": "logprobs"}
_SAME = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "seed",
    "stop",
    "presence_penalty",
    "frequency_penalty",
    "ignore_eos",
)
_HINTS = frozenset({"id_slot", "n_keep", "n_discard", "n_cache_reuse", "sse_ping_interval", "timings_per_token"})
_NEUTRAL: dict[str, tuple[object, ...]] = {  # fields that are not done, and the values of theirs that ask for nothing
    "adaptive_target": (-1,),
    "dry_multiplier": (0,),
    "dynatemp_range": (0,),
    "grammar": ("",),
    "json_schema": (),
    "lora": ([],),
    "min_keep": (0,),
    "mirostat": (0,),
    "n_indent": (0,),
    "post_sampling_probs": (False,),
    "repeat_last_n": (-1,),
    "response_fields": ([],),
    "return_progress": (False,),
    "t_max_predict_ms": (0,),
    "top_n_sigma": (-1,),
    "typical_p": (1,),
    "xtc_probability": (0,),
}
_UNUSED = frozenset({  # settings of controls that are off
    "adaptive_decay", "dry_allowed_length", "dry_base", "dry_penalty_last_n", "dry_sequence_breakers",
    "dynatemp_exponent", "mirostat_eta", "mirostat_tau", "xtc_threshold",
})  # fmt: skip


class CompletionBody(BaseModel):
    """POST /completion."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)
    prompt: Any
    model: str | None = None
    stream: bool = False
    cache_prompt: bool = True
    return_tokens: bool = False
    n_predict: int = -1
    n_cmpl: int | None = None
    n_probs: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    ignore_eos: bool | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repeat_penalty: float | None = None
    logit_bias: list[list[Any]] | dict[str, Any] | None = None

    @property
    def only_prompt(self) -> bool:
        """Nothing is generated, but the prompt is computed and cached."""
        return self.n_predict == 0

    def prompts(self, encode: Encode) -> list[list[int]]:
        """The token ids of each prompt.

        Raises:
            InvalidRequestError: something that is neither a text, nor ids, nor a list of these.
        """
        given = self.prompt
        several = isinstance(given, list) and any(isinstance(p, list | dict) for p in given)
        several = several or (isinstance(given, list) and bool(given) and all(isinstance(p, str) for p in given))
        return [_prompt_ids(prompt, encode) for prompt in (given if several else [given])]

    def sampling(self, defaults: Mapping[str, Any], encode: Encode) -> SamplingParams:
        values: dict[str, Any] = {**DEFAULTS, **defaults}
        for name in (*_SAME, *_RENAMED):
            value = getattr(self, name)
            if value is not None:
                values[_RENAMED.get(name, name)] = value
        values["temperature"] = max(0.0, values["temperature"])  # below zero is greedy, too
        values["max_tokens"] = 1 if self.only_prompt else None if self.n_predict < 0 else self.n_predict
        if not values.get("logprobs"):
            values["logprobs"] = None
        if self.logit_bias:
            values["logit_bias"] = dict(_biases(self.logit_bias, encode))
        return SamplingParams(**values)


def completion_body(body: dict[str, Any]) -> CompletionBody:
    """
    Raises:
        InvalidRequestError: a missing, unknown or ill-typed field, by its path.
        UnsupportedError: a field that asks for something this server does not do.
    """
    asked = {}
    for name, value in body.items():
        if value is None or name in _HINTS or name in _UNUSED:
            continue
        if name == "samplers":
            raise UnsupportedError("samplers: their order is fixed on this server; leave it out.", param=name)
        if name not in _NEUTRAL:
            asked[_ALIASES.get(name, name)] = value
        elif value not in _NEUTRAL[name] and not (name == "repeat_last_n" and body.get("repeat_penalty", 1) == 1):
            raise UnsupportedError(f"{name} is not supported by this server: leave it out.", param=name)
    return validated(CompletionBody, asked)


_ALIASES = {"max_tokens": "n_predict", "max_completion_tokens": "n_predict", "n": "n_cmpl", "logprobs": "n_probs"}


def _prompt_ids(prompt: object, encode: Encode) -> list[int]:
    if isinstance(prompt, Mapping) and set(prompt) == {"prompt_string"}:
        prompt = prompt["prompt_string"]
    if isinstance(prompt, str):
        return encode(prompt)
    if isinstance(prompt, Sequence) and prompt:
        ids: list[int] = []
        for part in prompt:
            if isinstance(part, str):
                ids += encode(part)
            elif isinstance(part, int) and not isinstance(part, bool):
                ids.append(part)
            else:
                break
        else:
            return ids
    raise InvalidRequestError(
        "prompt must be a text, token ids, a mixture of both, or a list of these.", param="prompt"
    )


def _biases(given: list[list[Any]] | dict[str, Any], encode: Encode) -> list[tuple[int, float]]:
    """(token id, bias) of each entry; false forbids a token, a text stands for its tokens."""
    biases = []
    for entry in given.items() if isinstance(given, dict) else given:
        key, bias = entry if len(entry) == 2 else (None, None)
        number = -100.0 if bias is False else bias
        if not isinstance(key, int | str) or isinstance(number, bool) or not isinstance(number, int | float):
            raise InvalidRequestError(
                f"logit_bias has {entry!r}: give [token id or text, number or false].", param="logit_bias"
            )
        ids = [int(key)] if isinstance(key, int) or key.lstrip("-").isdigit() else encode(key)
        biases += [(token_id, float(number)) for token_id in ids]
    return biases
