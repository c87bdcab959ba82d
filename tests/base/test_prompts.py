"""Prompts, messages and options as callers give them, without any model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from octavo.base.config import AsyncEngineArgs, EngineArgs, engine_args_of
from octavo.base.errors import ConfigError, InvalidRequestError, UnsupportedError
from octavo.base.messages import plain_messages
from octavo.base.outputs import RequestOutput
from octavo.base.prompts import as_prompt, as_prompt_list, one_each
from octavo.base.sampling import SamplingParams
from octavo.base.types import Delta


def test_a_flat_list_of_integers_is_one_prompt() -> None:
    for ids in ([1, 2], (1, 2), np.array([1, 2]), [np.int32(1), np.uint8(2)], iter([1, 2])):
        assert [as_prompt(p) for p in as_prompt_list(ids)] == [[1, 2]]
    assert [as_prompt(p) for p in as_prompt_list(np.array([[1, 2], [3, 4]]))] == [[1, 2], [3, 4]]
    assert all(type(i) is int for i in as_prompt(np.array([1, 2])))


@pytest.mark.parametrize("prompt", [None, 5, 1.5, b"ab", [True], [1.0], {"text": "a"}, {"prompt": 5}])
def test_other_things_are_no_prompts(prompt: Any) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        [as_prompt(p) for p in as_prompt_list(prompt)]
    assert refused.value.param == "prompt"


def test_one_for_all_or_one_each() -> None:
    assert one_each("x", 5, 2) == [5, 5]
    assert one_each("x", [5, 6], 2) == [5, 6]
    with pytest.raises(InvalidRequestError, match="x has 1 entries for 2"):
        one_each("x", [5], 2)


def test_messages_are_plain_text_and_keep_their_fields() -> None:
    parts = [{"type": "text", "text": "a"}, "b", {"text": "c"}]
    given = [{"role": "user", "content": parts, "name": "n"}, {"role": "assistant", "content": None, "tool_calls": []}]
    assert plain_messages(given) == [
        {"role": "user", "content": "a\nb\nc", "name": "n"},
        {"role": "assistant", "content": "", "tool_calls": []},
    ]
    assert given[0]["content"] is parts
    with pytest.raises(UnsupportedError, match="input_audio"):
        plain_messages([{"role": "user", "content": [{"type": "input_audio"}]}])


def test_numbers_of_other_libraries_are_taken() -> None:
    params = SamplingParams(
        n=np.int64(2), temperature=np.float32(0.5), seed=np.uint64(7), stop_token_ids={3}, logprobs=np.int8(1)
    )  # type: ignore[arg-type]
    assert (params.n, params.temperature, params.seed, params.stop_token_ids) == (2, 0.5, 7, [3])
    assert type(params.n) is int
    with pytest.raises(InvalidRequestError, match="temperature"):
        SamplingParams(temperature=np.float32("nan"))  # type: ignore[arg-type]


def test_outputs_finish_when_all_completions_have() -> None:
    output = RequestOutput.blank("r", None, [1], 2)
    output.add(Delta("r", 1, "a", (5,), finish_reason="stop"), str)
    early = output.snapshot()
    assert not early.finished
    output.add(Delta("r", 0, "b", (6,), finish_reason="length"), str)
    assert output.finished
    assert not early.finished
    early.add(Delta("r", 0, "c", (7,), finish_reason="length"), str)
    assert early.finished


def test_options_are_known_neutral_or_refused() -> None:
    assert engine_args_of("m", None, {"tensor_parallel_size": 1, "max_num_seqs": None}) == EngineArgs(model="m")
    assert AsyncEngineArgs(model="m", kv_cache_memory_bytes=5).kv_memory_bytes == 5
    for options, words in (
        ({"tensor_parallel_size": True}, "tensor_parallel_size=True"),
        ({"enable_lora": True}, "enable_lora"),
        ({"max_model_length": 5}, "Did you mean max_model_len"),
        ({"threads": 0}, "threads"),
        ({"enable_prefix_caching": "yes"}, "enable_prefix_caching"),
    ):
        with pytest.raises(ConfigError, match=words):
            engine_args_of("m", None, options)
