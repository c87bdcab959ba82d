"""The sampling defaults that a model's files recommend."""

from __future__ import annotations

import logging

import pytest

from octavo.text.sampling_defaults import sampling_defaults


def test_known_fields_are_taken_by_our_names() -> None:
    values = {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05, "do_sample": True,
              "eos_token_id": [1, 2], "max_new_tokens": 512, "min_p": None}  # fmt: skip
    assert sampling_defaults(values) == {
        "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05, "max_tokens": 512,
    }  # fmt: skip


def test_a_model_may_have_none() -> None:
    assert sampling_defaults({}) == {}


def test_what_is_out_of_range_is_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert sampling_defaults({"temperature": 7.0, "top_p": 0.9}) == {"top_p": 0.9}
    assert "temperature = 7.0" in caplog.text
