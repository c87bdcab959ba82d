"""The forms in which callers give prompts, made one: texts or token ids. Knows no tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from octavo.base.errors import InvalidRequestError

Prompt = str | Sequence[int] | Mapping[str, Any]
Prompts = Prompt | Sequence[Prompt]
Conversation = Sequence[Mapping[str, Any]]
T = TypeVar("T")


def as_prompt_list(prompts: Prompts) -> list[Prompt]:
    """One prompt or several as a list; a flat list of integers is one prompt of token ids."""
    if isinstance(prompts, str | Mapping):
        return [prompts]
    if prompts and all(isinstance(p, int) for p in prompts):
        return [prompts]  # type: ignore[list-item]
    return list(prompts)  # type: ignore[arg-type]


def as_prompt(prompt: Prompt) -> str | list[int]:
    """A text or token ids.

    Raises:
        InvalidRequestError: anything else.
    """
    if isinstance(prompt, Mapping):
        for key in ("prompt_token_ids", "prompt"):
            if prompt.get(key) is not None:
                return as_prompt(prompt[key])
        raise InvalidRequestError("A prompt object needs 'prompt' or 'prompt_token_ids'.", param="prompt")
    if isinstance(prompt, str):
        return prompt
    ids = list(prompt)
    if not all(isinstance(i, int) and not isinstance(i, bool) for i in ids):
        raise InvalidRequestError("A prompt must be a text or a list of token ids.", param="prompt")
    return ids


def one_each(name: str, values: T | Sequence[T], count: int) -> list[T]:
    """`values` for each of `count` prompts: one for all, or a sequence of exactly as many.

    Raises:
        InvalidRequestError: a sequence of another length.
    """
    if not isinstance(values, Sequence):
        return [values] * count
    if len(values) != count:
        raise InvalidRequestError(f"{name} has {len(values)} entries for {count} prompts.", param=name)
    return list(values)
