"""Request bodies of TGI's native API and how they become SamplingParams.

A field works, or is refused by name; a null is the same as an absent field. Source: TGI's OpenAPI document (3.3).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from octavo.base.errors import InvalidRequestError, UnsupportedError
from octavo.base.sampling import SamplingParams
from octavo.server.http import validated

# Limits that TGI's launcher sets by default; /info shows them.
MAX_BEST_OF = 2
MAX_STOP_SEQUENCES = 4
MAX_TOP_N_TOKENS = 5


class Parameters(BaseModel):
    """`parameters` of a native request. None means: not given."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)
    best_of: int | None = None
    temperature: float | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    typical_p: float | None = None
    do_sample: bool = False
    max_new_tokens: int | None = None
    return_full_text: bool | None = None
    stop: list[str] | None = None
    stop_sequences: list[str] | None = None  # the name in clients of before 2024
    truncate: int | None = None
    watermark: bool = False
    details: bool = False
    decoder_input_details: bool = False
    seed: int | None = None
    top_n_tokens: int | None = None
    grammar: dict[str, Any] | None = None
    adapter_id: str | None = None

    @property
    def samples(self) -> bool:
        """Whether tokens are drawn; TGI takes any control of the draw for a wish to draw."""
        return self.do_sample or any(
            value is not None for value in (self.temperature, self.top_k, self.top_p, self.typical_p)
        )

    @property
    def stops(self) -> list[str]:
        return [*(self.stop or ()), *(self.stop_sequences or ())]


class NativeBody(BaseModel):
    """The body of /generate, /generate_stream, /tokenize and, with `stream`, of POST /."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)
    inputs: str
    parameters: Parameters | None = None
    stream: bool = False
    options: dict[str, Any] | None = None  # of the hosted API: asks for waiting and for no answer cache, as here


@dataclass(frozen=True)
class Generation:
    """A checked native request: the text, what is told about the answer, and the controls of the engine."""

    inputs: str
    sampling: SamplingParams
    full_text: bool
    details: bool
    prefill: bool
    top_n: int
    truncate: int | None
    reported_seed: int | None

    @property
    def best_of(self) -> int:
        return self.sampling.n


def native_body(body: dict[str, Any]) -> NativeBody:
    """
    Raises:
        InvalidRequestError: a missing, unknown or ill-typed field, by its path.
    """
    given = {name: value for name, value in body.items() if value is not None}
    if isinstance(given.get("parameters"), dict):
        given["parameters"] = {name: value for name, value in given["parameters"].items() if value is not None}
    return validated(NativeBody, given)


def generation(body: NativeBody, *, stream: bool) -> Generation:
    """The request as the engine takes it.

    Without any `parameters` TGI samples; with some it takes the most likely token unless they ask for more.

    Raises:
        InvalidRequestError: a value out of TGI's range, or two that contradict each other.
        UnsupportedError: something this server does not do, by name.
    """
    given = body.parameters or Parameters(do_sample=True)
    if not body.inputs:
        raise InvalidRequestError("`inputs` cannot be empty", param="inputs")
    _refuse_unsupported(given)
    _check(given, stream=stream)
    seed = given.seed
    if seed is None and given.samples and given.best_of in (None, 1):
        seed = secrets.randbits(63)  # the answer names its seed, so it is drawn where the answer is written
    return Generation(
        inputs=body.inputs,
        sampling=_sampling(given, seed),
        full_text=bool(given.return_full_text),
        details=given.details or given.decoder_input_details,
        prefill=given.decoder_input_details,
        top_n=given.top_n_tokens or 0,
        truncate=given.truncate,
        reported_seed=seed if given.samples else None,
    )


def _sampling(given: Parameters, seed: int | None) -> SamplingParams:
    temperature = (1.0 if given.temperature is None else given.temperature) if given.samples else 0.0
    return SamplingParams(
        n=given.best_of or 1,
        max_tokens=given.max_new_tokens,
        temperature=temperature,
        top_p=1.0 if given.top_p is None else given.top_p,
        top_k=given.top_k or 0,
        repetition_penalty=1.0 if given.repetition_penalty is None else given.repetition_penalty,
        frequency_penalty=given.frequency_penalty or 0.0,
        seed=seed,
        stop=given.stops,
        include_stop_str_in_output=True,  # as TGI: the answer ends with the sequence that ended it
        logprobs=given.top_n_tokens or 0,
        prompt_logprobs=0 if given.decoder_input_details else None,
    )


def _refuse_unsupported(given: Parameters) -> None:
    for name, neutral in (("watermark", False), ("grammar", None), ("adapter_id", None)):
        if getattr(given, name) != neutral:
            raise UnsupportedError(f"`{name}` is not supported by this server: leave it out", param=name)
    if given.typical_p not in (None, 1.0):
        raise UnsupportedError("`typical_p` is not supported by this server: use top_p or top_k", param="typical_p")


def _check(given: Parameters, *, stream: bool) -> None:
    best_of = given.best_of or 1
    rules = (
        (given.best_of is None or given.best_of > 0, "best_of", "must be strictly positive"),
        (best_of <= MAX_BEST_OF, "best_of", f"must be <= {MAX_BEST_OF}. Given: {given.best_of}"),
        (best_of == 1 or given.samples, "best_of", "above 1 needs sampling: set do_sample"),
        (best_of == 1 or given.seed is None, "seed", "must not be set when `best_of` > 1"),
        (best_of == 1 or not stream, "best_of", "must be 1 in a stream"),
        (not (given.decoder_input_details and stream), "decoder_input_details", "cannot be had in a stream"),
        (given.temperature is None or given.temperature > 0, "temperature", "must be strictly positive"),
        (given.top_k is None or given.top_k > 0, "top_k", "must be strictly positive"),
        (given.max_new_tokens is None or given.max_new_tokens > 0, "max_new_tokens", "must be strictly positive"),
        (len(given.stops) <= MAX_STOP_SEQUENCES, "stop", f"must have at most {MAX_STOP_SEQUENCES} sequences"),
        (given.truncate is None or given.truncate > 0, "truncate", "must be strictly positive"),
        (given.seed is None or given.seed >= 0, "seed", "must not be negative"),
        (0 <= (given.top_n_tokens or 0) <= MAX_TOP_N_TOKENS, "top_n_tokens", f"must be from 0 to {MAX_TOP_N_TOKENS}"),
    )
    for holds, name, rule in rules:
        if not holds:
            raise InvalidRequestError(f"`{name}` {rule}", param=name)
