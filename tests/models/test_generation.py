"""The sampling defaults that a model's files recommend."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from octavo.models.generation import read_generation_defaults
from octavo.weights.hub import ModelFiles
from tests.weights.gguf_writer import write_gguf


def test_of_a_checkpoint(tmp_path: Path) -> None:
    values = {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05, "do_sample": True,
              "eos_token_id": [1, 2], "max_new_tokens": 512}  # fmt: skip
    (tmp_path / "generation_config.json").write_text(json.dumps(values))
    assert read_generation_defaults(ModelFiles("m", "hf", tmp_path)) == {
        "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05, "max_tokens": 512,
    }  # fmt: skip


def test_a_checkpoint_may_have_none(tmp_path: Path) -> None:
    assert read_generation_defaults(ModelFiles("m", "hf", tmp_path)) == {}


def test_of_a_gguf_file(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    values = {"general.architecture": "llama", "general.sampling.temp": 0.5, "general.sampling.top_k": 40}
    write_gguf(path, values, {})
    assert read_generation_defaults(ModelFiles("m", "gguf", path)) == {"temperature": 0.5, "top_k": 40}


def test_what_is_out_of_range_is_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "generation_config.json").write_text(json.dumps({"temperature": 7.0, "top_p": 0.9}))
    with caplog.at_level(logging.WARNING):
        assert read_generation_defaults(ModelFiles("m", "hf", tmp_path)) == {"top_p": 0.9}
    assert "temperature = 7.0" in caplog.text
