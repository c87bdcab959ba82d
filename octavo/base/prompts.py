"""The forms in which callers give prompts, made one: texts or token ids. Knows no tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any, TypeVar

from octavo.base.errors import InvalidRequestError

Prompt = str | Sequence[int] | Mapping[str, Any]
Prompts = Prompt | Sequence[Prompt]
Conversation = Sequence[Mapping[str, Any]]
T = TypeVar("T")


def as_prompt_list(prompts: Prompts) -> list[Prompt]:
    """One prompt or several as a list; a flat list (or array) of integers is one prompt of token ids.

    Raises:
        InvalidRequestError: nothing that could be prompts.
    """
    if isinstance(prompts, str | Mapping):
        return [prompts]
    items = _items(prompts)
    if items and all(_is_id(item) for item in items):
        return [items]
    return items


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
    ids = _items(prompt)
    if not all(_is_id(i) for i in ids):
        raise _wrong(prompt)
    return [int(i) for i in ids]


def _items(values: object) -> list[Any]:
    """The items of a list, a tuple, an iterator or an array (of any library whose arrays have tolist)."""
    to_list = getattr(values, "tolist", None)
    if to_list is not None:
        values = to_list()
    if isinstance(values, bytes | bytearray) or not isinstance(values, Iterable):
        raise _wrong(values)
    return list(values)


def _is_id(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _wrong(value: object) -> InvalidRequestError:
    return InvalidRequestError(
        f"A prompt must be a text or a list of token ids, got {value!r:.60} of type {type(value).__name__}.",
        param="prompt",
    )


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
