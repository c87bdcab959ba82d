"""Checks a request against the model and fills in what the engine must be told: the last place that can refuse it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from octavo.base.errors import InvalidRequestError, PromptTooLongError
from octavo.base.sampling import SamplingParams
from octavo.base.types import EngineLimits
from octavo.engine.tables import too_large_for_pool


class Encoder(Protocol):
    """What is needed of a tokenizer here."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]: ...


def check_prompt(prompt_ids: Sequence[int], limits: EngineLimits) -> None:
    """Refuses a prompt that cannot be served.

    Raises:
        InvalidRequestError: empty, or with ids outside the vocabulary, or larger than the whole KV cache.
        PromptTooLongError: no room for one token of the answer in the context window.
    """
    if not prompt_ids:
        raise InvalidRequestError("The prompt is empty: it has no tokens. Give at least one.", param="prompt")
    if len(prompt_ids) >= limits.max_model_len:
        raise PromptTooLongError(len(prompt_ids), limits.max_model_len, param="prompt")
    low, high = min(prompt_ids), max(prompt_ids)
    if low < 0 or high >= limits.vocab_size:
        bad = low if low < 0 else high
        raise InvalidRequestError(
            f"The prompt has token id {bad}, but the model's vocabulary has ids 0 to {limits.vocab_size - 1}.",
            param="prompt",
        )
    error = too_large_for_pool(limits, len(prompt_ids))
    if error is not None:
        raise InvalidRequestError(error, param="prompt")


def check_sampling(sampling: SamplingParams, num_prompt: int, limits: EngineLimits, max_logprobs: int) -> None:
    """Refuses sampling parameters that this model cannot honour; what needs no model was checked before.

    Raises:
        InvalidRequestError: naming the parameter.
    """
    _check_ids("stop_token_ids", sampling.stop_token_ids or (), limits.vocab_size)
    _check_ids("allowed_token_ids", sampling.allowed_token_ids or (), limits.vocab_size)
    _check_ids("logit_bias", sampling.logit_bias or (), limits.vocab_size)
    room = limits.max_model_len - num_prompt
    if sampling.min_tokens > room:
        raise InvalidRequestError(
            f"min_tokens is {sampling.min_tokens}, but after a prompt of {num_prompt} tokens the context window of "
            f"{limits.max_model_len} has room for {room}. Lower min_tokens or shorten the prompt.",
            param="min_tokens",
        )
    for name in ("logprobs", "prompt_logprobs"):
        value = getattr(sampling, name)
        if value is not None and max_logprobs != -1 and (value > max_logprobs or value == -1):
            raise InvalidRequestError(
                f"{name} must be at most {max_logprobs} here, got {value}{' (all)' if value == -1 else ''}.", param=name
            )


def bad_word_ids(words: Sequence[str], encoder: Encoder, vocab_size: int) -> tuple[tuple[int, ...], ...]:
    """Token sequences of the bad words, each as it is at the start of a text and, if that is one more sequence of
    equal length, after a space.

    Raises:
        InvalidRequestError: a word that has no tokens.
    """
    found: list[tuple[int, ...]] = []
    for word in words:
        plain = tuple(encoder.encode(word.lstrip(), add_special_tokens=False))
        spaced = tuple(encoder.encode(" " + word.lstrip(), add_special_tokens=False))
        if not plain:
            raise InvalidRequestError(f"The bad word {word!r} has no tokens.", param="bad_words")
        _check_ids("bad_words", plain + spaced, vocab_size)
        found.append(plain)
        if spaced and spaced[0] != plain[0] and len(spaced) == len(plain):
            found.append(spaced)
    return tuple(found)


def _check_ids(name: str, ids: Iterable[int], vocab_size: int) -> None:
    for id in ids:
        if not 0 <= id < vocab_size:
            raise InvalidRequestError(
                f"{name} has token id {id}, but the model's vocabulary has ids 0 to {vocab_size - 1}.", param=name
            )
