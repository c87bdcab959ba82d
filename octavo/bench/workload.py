"""What a benchmark asks of an engine: prompts of random tokens, or those of a file.

Random prompts share no prefix; end-of-sequence is ignored, so that every run does the same work. Knows the files'
shapes, no engine.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from octavo.base.errors import ConfigError

Encode = Callable[[str], list[int]]


@dataclass(frozen=True)
class Ask:
    """One request: token ids in, the number of tokens out."""

    prompt: tuple[int, ...]
    output_len: int


def check_positive(**counts: int) -> None:
    """Raises ConfigError naming the option that is below one."""
    for name, value in counts.items():
        if value < 1:
            raise ConfigError(f"{name.replace('_', '-')} must be at least 1, got {value}.")


def random_asks(num_prompts: int, input_len: int, output_len: int, vocab_size: int, *, seed: int) -> list[Ask]:
    """Equal seeds give equal prompts."""
    draw = random.Random(seed)
    prompts = (tuple(draw.randrange(vocab_size) for _ in range(input_len)) for _ in range(num_prompts))
    return [Ask(prompt, output_len) for prompt in prompts]


def dataset_asks(path: Path, encode: Encode, *, num_prompts: int, input_len: int | None, output_len: int | None,
                 default_output: int) -> list[Ask]:  # fmt: skip
    """The first `num_prompts` of a file: .jsonl with a `prompt` and perhaps `output_len` a line; .json in ShareGPT's
    shape (the first two turns of each conversation); any other: one prompt a line.

    A prompt is cut to `input_len`. Its answer has `output_len` tokens, else what the file says, else `default_output`.

    Raises:
        ConfigError: a file that cannot be read, has another shape, or has no prompt.
    """
    asks = []
    try:
        for prompt, answer in _read(path):
            ids = encode(prompt)[:input_len]
            told = len(encode(answer)) if isinstance(answer, str) else answer
            asks.append(Ask(tuple(ids), output_len or told or default_output))
            if len(asks) == num_prompts:
                break
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ConfigError(f"Cannot read prompts from {path}: {error!r}.") from error
    if not asks:
        raise ConfigError(f"{path} has no prompt.")
    return asks


def _read(path: Path) -> Iterator[tuple[str, str | int | None]]:
    """Prompts, each with its answer, the number of tokens of it, or neither."""
    text = path.read_text("utf-8")
    if path.suffix == ".json":
        for conversation in json.loads(text):
            turns = [turn["value"] for turn in conversation["conversations"]]
            if len(turns) > 1 and turns[0]:
                yield turns[0], turns[1]
    elif path.suffix == ".jsonl":
        for line in filter(str.strip, text.splitlines()):
            entry: dict[str, Any] = json.loads(line)
            prompt, told = entry["prompt"], entry.get("output_len")
            if told is not None and (isinstance(told, bool) or not isinstance(told, int) or told < 1):
                raise ValueError(f"output_len must be a whole number from 1 up, not {told!r}")
            yield prompt, told
    else:
        yield from ((line, None) for line in text.splitlines() if line.strip())
