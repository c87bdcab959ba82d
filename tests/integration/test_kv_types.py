"""What narrow KV pages cost: perplexity of the demo model's answers beside that with float32 pages."""

from __future__ import annotations

import numpy as np
import pytest

from octavo import LLM
from octavo.base.errors import ConfigError
from octavo.base.types import KvGroup
from octavo.models.spec import KvDtype
from tests.models.requantized import demo, demo_texts

pytest.importorskip("octavo._kernels", reason="CPU BACKEND ABSENT: the extension octavo._kernels is not built")

from octavo.backends.cpu import CpuBackend

# Of the perplexity, relative. bf16 has 8 bits of precision, int8 about 7 below each token's largest number.
BOUNDS: dict[KvDtype, float] = {"f16": 0.001, "bf16": 0.003, "int8": 0.003}


def test_narrow_pages_hardly_change_what_a_model_says() -> None:
    texts = demo_texts(48)
    model = demo(CpuBackend(threads=2), "Q8_0")
    exact = model.nats(texts, kv_dtype="f32")
    assert len(exact) > 500
    for dtype, bound in BOUNDS.items():
        found = model.nats(texts, kv_dtype=dtype)
        assert not np.array_equal(found, exact), "the type changes nothing"
        assert abs(np.expm1(found.mean() - exact.mean())) < bound, dtype


def test_the_option_is_known_by_name() -> None:
    with LLM("octavo-demo", kv_cache_dtype="int8", max_model_len=128, kv_memory_bytes=1 << 24) as llm:
        assert llm.info.details["kv_cache_dtype"] == "int8"
        assert llm.info.fingerprint.endswith("kv-int8")
    with pytest.raises(ConfigError, match="kv_cache_dtype must be one of auto, f32, f16, bf16, int8, got 'fp8'"):
        LLM("octavo-demo", kv_cache_dtype="fp8")


def test_heads_whose_sums_would_not_be_exact_are_refused() -> None:
    from octavo.backends.cpu.kv import check_layout
    from octavo.backends.ops import KvLayout

    def layout(head_dim: int) -> KvLayout:
        return KvLayout((KvGroup("all"),), (0,), (0,), 1, 1, head_dim, "int8", 16)

    check_layout(layout(512))
    with pytest.raises(ConfigError, match="up to heads of 512 numbers, and this model's have 516"):
        check_layout(layout(516))
