"""stories260K, a trained model: continuations, log-probabilities and perplexity against transformers in float32."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tokenizers import Tokenizer

from octavo.backends.ops import F32, Backend
from tests.models.harness import load, run_sequences

CONTEXT = 512
MARGIN = 1e-3  # where two tokens are nearer, either may come first
FEW = 4  # the reference backend is slow


def golden(shared_data: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((shared_data / "models" / "stories260K" / "goldens.json").read_text())
    return found


def log_softmax(logits: F32) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def next_token_logprobs(logits: F32, ids: Sequence[int]) -> npt.NDArray[np.float64]:
    """Of ids[1:], each given what comes before it."""
    return log_softmax(logits[:-1])[np.arange(len(ids) - 1), ids[1:]]


@pytest.mark.parametrize("file", ["hf", "stories260K.gguf"])
def test_continuations_and_logprobs(file: str, backend: Backend, shared_data: Path) -> None:
    model = load(shared_data / "models" / "stories260K" / file, backend)
    rows = golden(shared_data)["rows"][: FEW if backend.name == "reference" else None]
    sequences = [row["prompt_ids"] + row["ids"] for row in rows]
    for row, ids, logits in zip(
        rows, sequences, run_sequences(backend, model.spec, model.weights, sequences), strict=True
    ):
        start = len(row["prompt_ids"]) - 1
        assert np.abs(next_token_logprobs(logits, ids)[start:] - row["logprobs"]).max() < 1e-4
        if row["margin_min"] > MARGIN:
            assert logits[start:-1].argmax(axis=-1).tolist() == row["ids"]
        top = log_softmax(logits[start:-1])
        for position, best in enumerate(row["top5"]):
            for token, logprob in best:
                assert abs(top[position, token] - logprob) < 1e-3


def perplexity(backend: Backend, shared_data: Path) -> tuple[float, int]:
    folder = shared_data / "models" / "stories260K" / "hf"
    corpus = (shared_data / "corpora" / "tinystories-sample-a.txt").read_text("utf-8")
    want = golden(shared_data)["perplexity"]
    texts = [text.strip() for text in corpus[: want["characters"]].split("<|endoftext|>")]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    documents = [tokenizer.encode(text).ids[:CONTEXT] for text in texts if text]
    model = load(folder, backend)
    total, count = 0.0, 0
    for start in range(0, len(documents), 16):
        batch = documents[start : start + 16]
        for ids, logits in zip(batch, run_sequences(backend, model.spec, model.weights, batch), strict=True):
            total -= float(next_token_logprobs(logits, ids).sum())
            count += len(ids) - 1
    return float(np.exp(total / count)), count


def check_perplexity(backend: Backend, shared_data: Path) -> None:
    want = golden(shared_data)["perplexity"]
    found, count = perplexity(backend, shared_data)
    assert count == want["tokens"]
    assert abs(found - want["ppl"]) < 1e-3


def test_perplexity_on_the_fast_backends(backend: Backend, shared_data: Path) -> None:
    if backend.name == "reference":
        pytest.skip("the reference backend's turn is in the soak tests")
    check_perplexity(backend, shared_data)


@pytest.mark.soak
def test_perplexity(backend: Backend, shared_data: Path) -> None:
    check_perplexity(backend, shared_data)
