"""The fast kernels on whole models: perplexity beside the float32 reference on the same weights, and equal bits.

The demo model in every quantized type, stories260K in the float types. The reference multiplies decoded weights with
float32 activations and keeps float32 keys and values (its numbers for the demo model are golden: it is slow); the fast
backend rounds activations to 8 bits and keeps its own default type of keys and values.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from octavo.backends.ops import F32
from octavo.backends.reference import ReferenceBackend
from octavo.models.spec import KvDtype
from tests.models.requantized import DEMO, Model, Text, demo, demo_texts, load

pytest.importorskip("octavo._kernels", reason="CPU BACKEND ABSENT: the extension octavo._kernels is not built")

from octavo import _kernels
from octavo.backends.cpu import CpuBackend

LEVELS = _kernels.machine_isas()
GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "demo_perplexity.json").read_text("utf-8"))
TOLERANCE = 1e-3  # of perplexity
QUANTIZED = ["Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]
FLOATS = ["F32", "F16", "BF16"]
DEFAULT_KV: dict[str, KvDtype] = {"F32": "f32", "F16": "f16"}  # others: bf16
ROWS = [1, 2, 7, 16, 17, 64, 512]


@lru_cache(maxsize=1)
def texts() -> list[Text]:
    found = demo_texts(GOLDEN["conversations"])
    assert sum(len(text.ids) - text.head for text in found) == GOLDEN["tokens"]
    return found


def check_perplexity(want: float, texts: Sequence[Text], path: Path, format: str, isas: Sequence[str]) -> None:
    """`want`: nats a token by the reference."""
    for isa in isas:
        fast = load(path, CpuBackend(threads=2, isa=isa), format)
        found = fast.nats(texts, kv_dtype="f16" if format in ("F32", "F16") else "bf16").mean()
        assert abs(np.expm1(found - want)) < TOLERANCE, f"{isa}: perplexity {np.exp(found)} instead of {np.exp(want)}"


def test_the_golden_numbers_are_of_this_model() -> None:
    found = hashlib.sha256((DEMO / "octavo-demo.gguf").read_bytes()).hexdigest()
    assert found == GOLDEN["model_sha256"], "another model: python -m tools.golden.make_perplexity"
    assert set(GOLDEN["nats_per_token"]) == {*QUANTIZED, *FLOATS}


@pytest.mark.parametrize("format", QUANTIZED + FLOATS)
def test_perplexity_of_the_demo_model(format: str) -> None:
    want = GOLDEN["nats_per_token"][format]
    check_perplexity(want, texts(), DEMO / "octavo-demo.gguf", format, LEVELS[-1:])


@pytest.mark.soak
@pytest.mark.parametrize("format", QUANTIZED + FLOATS)
def test_perplexity_of_the_demo_model_on_every_level(format: str) -> None:
    want = demo(ReferenceBackend(), format).nats(texts()).mean()
    assert want == pytest.approx(GOLDEN["nats_per_token"][format], rel=1e-5)
    check_perplexity(want, texts(), DEMO / "octavo-demo.gguf", format, LEVELS[:-1])


def stories(shared_data: Path, documents: int) -> tuple[Path, list[Text]]:
    from tokenizers import Tokenizer

    folder = shared_data / "models" / "stories260K" / "hf"
    corpus = (shared_data / "corpora" / "tinystories-sample-a.txt").read_text("utf-8")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    texts = [text.strip() for text in corpus.split("<|endoftext|>") if text.strip()]
    return folder, [Text(tuple(tokenizer.encode(text).ids[:256]), 1) for text in texts[:documents]]


@pytest.mark.parametrize("format", FLOATS)
def test_perplexity_of_stories260k(format: str, shared_data: Path) -> None:
    folder, texts = stories(shared_data, 4)
    want = load(folder, ReferenceBackend(), format).nats(texts).mean()
    check_perplexity(want, texts, folder, format, LEVELS)


# ---------------------------------------------------------------- equal bits


def logits(model: Model, tokens: Sequence[int], chunk: int) -> F32:
    return model.logits([tokens], chunk=chunk, kv_dtype="bf16")[0]


def check_equal(format: str, isa: str, threads: Sequence[int], rows: Sequence[int], length: int) -> None:
    """Chunks of any size, on any number of workers, and among other rows."""
    tokens = [id for text in texts() for id in text.ids][:length]
    whole = None
    for number in threads:
        model = demo(CpuBackend(threads=number, isa=isa), format)
        for count in rows:
            found = logits(model, tokens, count)
            whole = found if whole is None else whole
            assert np.array_equal(found, whole), f"{count} rows, {number} threads"
        lengths = [length, 33, 5, length // 2, 1]
        together = model.logits([tokens[:own] for own in lengths], chunk=40, kv_dtype="bf16")
        for own, found in zip(lengths, together, strict=True):
            assert whole is not None and np.array_equal(found, whole[:own]), f"batched, {number} threads"


@pytest.mark.parametrize("format", ["Q8_0", "Q4_K", "BF16"])
def test_bits_do_not_depend_on_rows_threads_and_chunks(format: str) -> None:
    check_equal(format, LEVELS[-1], [2, 1, 3], [512, 1, 7, 17, 64], 160)


@pytest.mark.soak
@pytest.mark.parametrize("format", QUANTIZED + FLOATS)
def test_bits_on_every_level(format: str) -> None:
    for isa in LEVELS[:-1]:
        check_equal(format, isa, [2], [1, 16, 512], 512)
    check_equal(format, LEVELS[-1], [1, 2, 3], ROWS, 512)
