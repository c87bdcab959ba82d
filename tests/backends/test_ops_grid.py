"""Every op of every backend against the reference, over a grid of shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from octavo.backends.ops import F32, Backend, RopeSpec, SampleRows
from octavo.backends.reference import ReferenceBackend
from octavo.weights.loader import HostTensor
from tests.backends.one_op import BLOCK_FORMATS, Arrays, Body, Rows, layout_of, random, random_blocks, run_op
from tests.models.harness import relative_error

MIXED = Rows(lengths=(1, 21, 1, 5), before=(40, 0, 16, 30))  # decodes and chunks side by side
FLOAT_TOLERANCE = 1e-5

HEADS = {"mha": (4, 4), "gqa": (6, 2), "mqa": (4, 1), "wide-gqa": (16, 2)}


def check(
    backend: Backend, body: Body, arrays: Arrays, rows: Rows, tolerance: float = FLOAT_TOLERANCE, **options: Any
) -> F32:
    want = run_op(ReferenceBackend(), body, arrays, rows, **options)
    found = run_op(backend, body, arrays, rows, **options)
    assert found.shape == want.shape
    assert relative_error(found, want) < tolerance
    return found


def attention_case(num_heads: int, num_kv_heads: int, head_dim: int, total: int, sinks: bool) -> Arrays:
    arrays = {
        "q": random(1, total, num_heads * head_dim),
        "k": random(2, total, num_kv_heads * head_dim),
        "v": random(3, total, num_kv_heads * head_dim),
    }
    return {**arrays, "sinks": random(4, num_heads)} if sinks else arrays


def attention_body(num_heads: int, scale: float, window: int | None, soft_cap: float | None) -> Body:
    def body(ops: Any, w: Mapping[str, Any], kv: Any) -> Any:
        ops.store_kv(ops.embed(w["k"]), ops.embed(w["v"]), kv[0])
        q = ops.embed(w["q"])
        return ops.attention(q, kv[0], num_heads=num_heads, scale=scale, window=window, soft_cap=soft_cap,
                             sinks=w.get("sinks"))  # fmt: skip

    return body


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("head_dim", [6, 16, 64])
@pytest.mark.parametrize(("window", "soft_cap", "sinks"), [(None, None, False), (7, None, True), (16, 3.0, False)])
def test_attention(
    backend: Backend, heads: str, head_dim: int, window: int | None, soft_cap: float | None, sinks: bool
) -> None:
    num_heads, num_kv_heads = HEADS[heads]
    arrays = attention_case(num_heads, num_kv_heads, head_dim, MIXED.total, sinks)
    layout = layout_of(num_kv_heads, head_dim, window)
    check(backend, attention_body(num_heads, 0.4, window, soft_cap), arrays, MIXED, layout=layout)


# Queries and probabilities may be rounded too: to bf16 beside bf16 pages, to 16 bits beside int8 ones.
KV_TOLERANCE = {"f32": 1e-5, "f16": 1e-5, "bf16": 1e-2, "int8": 2e-4}


@pytest.mark.parametrize("dtype", KV_TOLERANCE)
@pytest.mark.parametrize("page_size", [16, 32])
def test_attention_over_narrow_pages(backend: Backend, dtype: Any, page_size: int) -> None:
    arrays = attention_case(6, 2, 32, MIXED.total, sinks=False)
    layout = layout_of(2, 32, None, dtype, page_size)
    check(backend, attention_body(6, 0.2, None, None), arrays, MIXED, KV_TOLERANCE[dtype], layout=layout)


@pytest.mark.parametrize("window", [None, 300])
def test_attention_over_long_contexts(backend: Backend, window: int | None) -> None:
    rows = Rows(lengths=(1, 3, 700), before=(1030, 515, 0))
    arrays = attention_case(4, 2, 16, rows.total, sinks=True)
    check(backend, attention_body(4, 0.3, window, None), arrays, rows, layout=layout_of(2, 16, window))


@pytest.mark.parametrize("width", [8, 17, 100, 576])
def test_norms(backend: Backend, width: int) -> None:
    rows = Rows.prefill(1, 16, 3)
    arrays = {"x": random(1, rows.total, width, spread=3.0), "w": random(2, width), "b": random(3, width)}
    check(backend, lambda ops, w, kv: ops.rms_norm(ops.embed(w["x"]), w["w"], eps=1e-5), arrays, rows)
    check(backend, lambda ops, w, kv: ops.layer_norm(ops.embed(w["x"]), w["w"], w["b"], eps=1e-5), arrays, rows)
    check(backend, lambda ops, w, kv: ops.layer_norm(ops.embed(w["x"]), w["w"], None, eps=1e-5), arrays, rows)


@pytest.mark.parametrize("head_dim", [6, 64])
def test_norm_of_each_head(backend: Backend, head_dim: int) -> None:
    rows = Rows.prefill(5)
    arrays = {"x": random(1, rows.total, 3 * head_dim, spread=2.0), "w": random(2, head_dim)}
    check(
        backend, lambda ops, w, kv: ops.rms_norm(ops.embed(w["x"]), w["w"], eps=1e-6, head_dim=head_dim), arrays, rows
    )


@pytest.mark.parametrize(("head_dim", "pairs"), [(6, 3), (64, 32), (80, 16)])
def test_rope(backend: Backend, head_dim: int, pairs: int) -> None:
    rope = RopeSpec(tuple(10000.0 ** (-i / pairs) for i in range(pairs)), attention_factor=1.3)
    rows = Rows(lengths=(9, 1), before=(0, 700))
    arrays = {"x": random(1, rows.total, 3 * head_dim)}
    check(backend, lambda ops, w, kv: ops.rope(ops.embed(w["x"]), rope, head_dim=head_dim), arrays, rows)


@pytest.mark.parametrize("activation", ["silu", "gelu_tanh", "gelu", "relu"])
def test_activations(backend: Backend, activation: Any) -> None:
    rows = Rows.prefill(6)
    arrays = {"gate": random(1, 6, 96, spread=4.0), "up": random(2, 6, 96)}
    arrays["gate"][0, :4] = (0.0, 100.0, -100.0, -0.0)
    check(backend, lambda ops, w, kv: ops.gated(ops.embed(w["gate"]), ops.embed(w["up"]), activation), arrays, rows)
    check(backend, lambda ops, w, kv: ops.activate(ops.embed(w["gate"]), activation), arrays, rows)


def test_element_by_element(backend: Backend) -> None:
    arrays = {"a": random(1, 7, 40), "b": random(2, 7, 40)}
    rows = Rows.prefill(4, 3)
    found = check(backend, lambda ops, w, kv: ops.add(ops.embed(w["a"]), ops.embed(w["b"])), arrays, rows)
    assert np.array_equal(found, arrays["a"] + arrays["b"])
    check(backend, lambda ops, w, kv: ops.scale(ops.embed(w["a"], scale=1.5), 0.3), arrays, rows)


@pytest.mark.parametrize(("inputs", "outputs"), [(8, 12), (96, 40), (256, 100)])
@pytest.mark.parametrize("num_rows", [1, 2, 7, 40])
def test_linear_in_float32(backend: Backend, inputs: int, outputs: int, num_rows: int) -> None:
    arrays = {"x": random(1, num_rows, inputs), "w": random(2, outputs, inputs), "b": random(3, outputs)}
    rows = Rows.prefill(num_rows)
    check(backend, lambda ops, w, kv: ops.linear(ops.embed(w["x"]), w["w"]), arrays, rows)
    check(backend, lambda ops, w, kv: ops.linear(ops.embed(w["x"]), w["w"], w["b"]), arrays, rows)


@pytest.mark.parametrize(("format", "tolerance"), [("F16", 1e-5), ("BF16", 1e-2)])
def test_half_precision(backend: Backend, format: str, tolerance: float) -> None:
    """Products with bfloat16 weights may round activations to bfloat16."""
    tensors = {n: HostTensor.from_float32(n, random(i, 48, 100), format) for i, n in enumerate(("w", "e"))}
    rows = Rows.prefill(5)
    arrays: Arrays = {"x": random(1, 5, 100), **tensors}
    check(backend, lambda ops, w, kv: ops.linear(ops.embed(w["x"]), w["w"]), arrays, rows, tolerance)
    check(backend, lambda ops, w, kv: ops.embed(w["e"], scale=2.0), arrays, rows)


@pytest.mark.parametrize("format", BLOCK_FORMATS)
def test_block_formats(backend: Backend, format: str) -> None:
    """Block formats meet activations of 8 bits in products; as an embedding they are exact."""
    arrays: Arrays = {"x": random(1, 5, 512), "w": random_blocks(2, format, 48, 512)}
    rows = Rows.prefill(5)
    check(backend, lambda ops, w, kv: ops.linear(ops.embed(w["x"]), w["w"]), arrays, rows, 1e-2)
    check(backend, lambda ops, w, kv: ops.embed(w["w"], scale=2.0), arrays, rows)


def test_logits(backend: Backend) -> None:
    arrays = {"x": random(1, 9, 64), "head": random(2, 211, 64)}
    rows = Rows.prefill(4, 5)
    for scale, soft_cap in ((1.0, None), (0.25, None), (1.0, 30.0), (0.5, 4.0)):
        body: Body = lambda ops, w, kv, s=scale, c=soft_cap: ops.logits(  # noqa: E731
            ops.embed(w["x"]), w["head"], scale=s, soft_cap=c
        )
        check(backend, body, arrays, rows)


def sample_rows(count: int, **fields: Any) -> SampleRows:
    rng = np.random.default_rng(11)
    values = {
        "temperature": np.full(count, 0.8), "top_k": np.zeros(count), "top_p": np.ones(count), "min_p": np.zeros(count),
        "seeds": rng.integers(0, 2**64, count, dtype=np.uint64), "positions": rng.integers(0, 5000, count), **fields,
    }  # fmt: skip
    dtypes = {"top_k": np.int32, "positions": np.int32, "seeds": np.uint64}
    return SampleRows(**{k: np.broadcast_to(v, count).astype(dtypes.get(k, np.float32)) for k, v in values.items()})


@pytest.mark.parametrize(
    "fields",
    [{}, {"temperature": 0.0}, {"top_k": 5}, {"top_p": 0.6}, {"min_p": 0.05}, {"top_k": 1}, {"top_p": 1e-6},
     {"temperature": 1.7, "top_k": 40, "top_p": 0.9, "min_p": 0.01}],
    ids=str,
)  # fmt: skip
def test_sampling(backend: Backend, fields: dict[str, Any]) -> None:
    rows = sample_rows(64, **fields)
    logits = random(5, 64, 1000, spread=2.5)
    logits[:, ::7] = -np.inf
    logits[3, 100:110] = logits[3].max() + 1  # equals
    want = ReferenceBackend().sample(logits.copy(), rows)
    assert np.array_equal(backend.sample(logits, rows), want)
