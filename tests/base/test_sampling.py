"""SamplingParams: ranges are checked by name, and equivalent spellings become one."""

from __future__ import annotations

import pytest

from octavo import SamplingParams
from octavo.base.errors import InvalidRequestError


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 0), ("n", True), ("max_tokens", 0), ("min_tokens", -1), ("min_tokens", 17), ("temperature", -0.1),
        ("temperature", 2.1), ("temperature", float("nan")), ("top_p", 0), ("top_p", 1.1), ("top_k", -2),
        ("min_p", 1.5),
        ("presence_penalty", 3), ("frequency_penalty", -3), ("repetition_penalty", 0), ("seed", 2**64),
        ("logprobs", -2),
        ("prompt_logprobs", 1.5), ("stop", [""]), ("stop_token_ids", [-1]), ("allowed_token_ids", []),
        ("bad_words", "word"), ("logit_bias", {"x": 1}),
    ],
)  # fmt: skip
def test_values_out_of_range_name_their_field(field: str, value: object) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        SamplingParams(**{field: value})  # type: ignore[arg-type]
    assert caught.value.param == field


def test_spellings_become_one() -> None:
    params = SamplingParams(top_k=-1, seed=-1, stop="end", temperature=0.001, logit_bias={"3": 500})  # type: ignore[dict-item]
    assert (params.top_k, params.seed, params.stop_strings, params.temperature) == (0, None, ("end",), 0.01)
    assert params.logit_bias == {3: 100.0}


def test_greedy_is_below_the_smallest_temperature() -> None:
    assert SamplingParams(temperature=0).greedy
    assert not SamplingParams(temperature=0.01).greedy


def test_clone_is_checked() -> None:
    params = SamplingParams(temperature=0.5, stop="a")
    assert params.clone(n=2).stop_strings == ("a",)
    with pytest.raises(InvalidRequestError):
        params.clone(n=0)


def test_stop_strings_need_text() -> None:
    with pytest.raises(InvalidRequestError, match="detokenize"):
        SamplingParams(stop="x", detokenize=False)
