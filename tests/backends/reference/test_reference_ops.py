"""The reference's ops against formulas written another way: loops in float64, complex rotation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from octavo.backends.ops import ProgramLimits, RopeSpec
from octavo.backends.reference import ReferenceBackend
from octavo.base.errors import UnsupportedModelError
from octavo.weights.loader import HostTensor
from octavo.weights.tensor import TensorInfo
from tests.backends.one_op import Rows, layout_of, random, run_op
from tests.backends.test_ops_grid import HEADS, attention_body, attention_case
from tests.models.harness import relative_error, step_inputs

ROWS = Rows(lengths=(1, 9, 4), before=(20, 0, 13))


def plain_attention(arrays, rows, num_heads, num_kv_heads, scale, window, soft_cap) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Softmax over the last `window` positions, one head of one token at a time."""
    out = []
    first = 0
    for before, length in zip(rows.before, rows.lengths, strict=True):
        total = before + length
        q, k, v = (
            arrays[n][first : first + total].astype(np.float64).reshape(total, heads, -1)
            for n, heads in (("q", num_heads), ("k", num_kv_heads), ("v", num_kv_heads))
        )
        for t in range(before, total):
            row = []
            for h in range(num_heads):
                own = h // (num_heads // num_kv_heads)
                seen = [j for j in range(t + 1) if window is None or t - j < window]
                scores = [scale * float(q[t, h] @ k[j, own]) for j in seen]
                if soft_cap is not None:
                    scores = [soft_cap * math.tanh(s / soft_cap) for s in scores]
                weights = [math.exp(s) for s in scores]
                total_weight = sum(weights) + (math.exp(arrays["sinks"][h]) if "sinks" in arrays else 0)
                row.append(sum(w * v[j, own] for w, j in zip(weights, seen, strict=True)) / total_weight)
            out.append(np.concatenate(row))
        first += total
    return np.array(out)


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize(("window", "soft_cap", "sinks"), [(None, None, False), (6, None, True), (16, 2.0, False)])
def test_attention(heads: str, window: int | None, soft_cap: float | None, sinks: bool) -> None:
    num_heads, num_kv_heads = HEADS[heads]
    arrays = attention_case(num_heads, num_kv_heads, 8, ROWS.total, sinks)
    body = attention_body(num_heads, 0.4, window, soft_cap)
    found = run_op(ReferenceBackend(), body, arrays, ROWS, layout=layout_of(num_kv_heads, 8, window))
    want = plain_attention(arrays, ROWS, num_heads, num_kv_heads, 0.4, window, soft_cap)
    assert relative_error(found, want) < 1e-6


def test_pages_given_back_are_never_read() -> None:
    """A window's old pages may be gone (-1) or hold another's data; a page that is needed may not."""
    backend = ReferenceBackend()
    layout = layout_of(1, 8, window=5, page_size=16)
    arrays = attention_case(2, 1, 8, 40, sinks=False)
    weights = {n: backend.load(HostTensor.from_float32(n, a)) for n, a in arrays.items()}
    body = attention_body(2, 0.4, 5, None)
    kv = backend.allocate_kv(layout, 3)

    def forward(ops, weights, layers):  # type: ignore[no-untyped-def]
        return {"out": body(ops, weights, layers)}

    program = backend.build(forward, weights, kv, ProgramLimits(40, 1, 40, 40))
    table = np.array([[2, 0, 1]], np.int32)
    program.run(program.prepare(step_inputs([list(range(36))], [0], [table])))
    step = [[36, 37, 38, 39]]
    want = program.run(program.prepare(step_inputs(step, [36], [table])))["out"]
    kv.pages[[2, 0]] = np.nan
    kv.pages[0, :, :, :, 15] = 0  # positions 32.. are in page 1; nothing before 32 is in reach
    gone = np.array([[-1, -1, 1]], np.int32)
    assert np.array_equal(program.run(program.prepare(step_inputs(step, [36], [gone])))["out"], want)
    with pytest.raises(ValueError, match=r"positions 32 to 39 of KV group 0 have no page"):
        program.run(program.prepare(step_inputs(step, [36], [np.array([[2, 0, -1]], np.int32)])))


def test_rope_rotates_pairs_as_complex_numbers() -> None:
    rope = RopeSpec((1.0, 0.1, 0.01), attention_factor=1.5)
    arrays = {"x": random(1, 12, 2 * 8)}
    found = run_op(ReferenceBackend(), lambda ops, w, kv: ops.rope(ops.embed(w["x"]), rope, head_dim=8), arrays,
                   Rows(lengths=(12,), before=(0,)))  # fmt: skip
    heads = arrays["x"].reshape(12, 2, 8)
    turned = (heads[..., :3] + 1j * heads[..., 3:6]) * 1.5
    turned = turned * np.exp(1j * np.arange(12)[:, None, None] * np.array(rope.inv_freq))
    want = np.concatenate([turned.real, turned.imag, heads[..., 6:]], axis=-1).reshape(12, 16)
    assert relative_error(found, want) < 1e-6


def test_norms() -> None:
    x, w, b = random(1, 4, 12, spread=5.0), random(2, 12), random(3, 12)
    arrays = {"x": x, "w": w, "b": b, "h": w[:6]}
    backend, rows, wide = ReferenceBackend(), Rows.prefill(4), x.astype(np.float64)
    found = run_op(backend, lambda ops, w, kv: ops.rms_norm(ops.embed(w["x"]), w["w"], eps=0.1), arrays, rows)
    assert relative_error(found, [r / math.sqrt(r @ r / 12 + 0.1) * w for r in wide]) < 1e-6
    found = run_op(
        backend, lambda ops, w, kv: ops.rms_norm(ops.embed(w["x"]), w["h"], eps=0.1, head_dim=6), arrays, rows
    )
    halves = wide.reshape(8, 6)
    assert relative_error(found.reshape(8, 6), [r / math.sqrt(r @ r / 6 + 0.1) * w[:6] for r in halves]) < 1e-6
    found = run_op(backend, lambda ops, w, kv: ops.layer_norm(ops.embed(w["x"]), w["w"], w["b"], eps=0.1), arrays, rows)
    assert relative_error(found, [(r - r.mean()) / math.sqrt(r.var() + 0.1) * w + b for r in wide]) < 1e-6


@pytest.mark.parametrize(
    ("activation", "formula"),
    [
        ("silu", lambda x: x / (1 + math.exp(-x))),
        ("gelu", lambda x: x * 0.5 * math.erfc(-x / math.sqrt(2))),
        ("gelu_tanh", lambda x: x / (1 + math.exp(-2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))),
        ("relu", lambda x: max(x, 0.0)),
    ],
)
def test_activations(activation, formula) -> None:  # type: ignore[no-untyped-def]
    x = np.linspace(-6, 6, 49, dtype=np.float32)[None]
    found = run_op(ReferenceBackend(), lambda ops, w, kv: ops.activate(ops.embed(w["x"]), activation), {"x": x},
                   Rows.prefill(1))  # fmt: skip
    assert np.abs(found[0] - [formula(float(v)) for v in x[0]]).max() < 1e-6


def test_logits_scale_comes_before_the_cap() -> None:
    arrays = {"x": random(1, 3, 16), "w": random(2, 20, 16)}
    body = lambda ops, w, kv: ops.logits(ops.embed(w["x"]), w["w"], scale=0.5, soft_cap=3.0)  # noqa: E731
    found = run_op(ReferenceBackend(), body, arrays, Rows.prefill(3))
    want = 3 * np.tanh(0.5 * (arrays["x"].astype(np.float64) @ arrays["w"].T) / 3)
    assert relative_error(found, want) < 1e-6


# ---------------------------------------------------------------- pages, limits, memory


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "int8"])
def test_pages_keep_numbers_as_the_layout_says(dtype: str) -> None:
    layout = layout_of(2, 4, dtype=dtype)  # type: ignore[arg-type]
    kv = ReferenceBackend().allocate_kv(layout, 2)
    assert kv.pages.nbytes + kv.scales.nbytes == 2 * layout.page_bytes
    k, v = random(1, 2, 4), random(2, 2, 4)
    table = np.array([1], np.int32)
    kv.layers[0].store(table, 3, k, v)
    read_k, read_v = kv.layers[0].read(table, 3, 4)
    spacing = {"f32": 0.0, "f16": 2.0**-11, "bf16": 2.0**-8, "int8": 0.502 / 127}[dtype]
    assert np.abs(read_k[:, 0] - k).max() <= spacing * np.abs(k).max()
    assert np.abs(read_v[:, 0] - v).max() <= spacing * np.abs(v).max()
    kv.copy_pages([(1, 0)])
    assert np.array_equal(kv.pages[0], kv.pages[1])
    kv.zero_pages([1])
    assert not kv.pages[1].any() and kv.pages[0].any()


def test_a_broken_number_marks_its_token_in_int8_pages() -> None:
    layout = layout_of(3, 4, dtype="int8")
    kv = ReferenceBackend().allocate_kv(layout, 1)
    k, v = random(1, 3, 4), random(2, 3, 4)
    k[0, 1], v[1, 2] = np.inf, np.nan
    kv.layers[0].store(np.array([0], np.int32), 5, k, v)
    read_k, read_v = kv.layers[0].read(np.array([0], np.int32), 5, 6)
    assert np.isnan(read_k[:2, 0]).all() and not read_v[:2, 0].any()
    assert np.isfinite(read_k[2]).all() and read_v[2].any()


def test_bf16_rounds_to_nearest_even() -> None:
    from octavo.backends.reference.kv import from_bf16, to_bf16

    bits = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x7F800000, 0x7FC00001], np.uint32)
    assert to_bf16(bits.view(np.float32)).tolist() == [0x3F80, 0x3F82, 0x3F81, 0x7F80, 0x7FC0]
    assert from_bf16(np.array([0x3FC0], np.uint16)) == 1.5


def test_a_step_beyond_the_limits_is_refused() -> None:
    backend = ReferenceBackend()
    weights = {"x": backend.load(HostTensor.from_float32("x", random(1, 8, 4)))}
    program = backend.build(lambda ops, w, kv: {"out": ops.embed(w["x"])}, weights, backend.allocate_kv(layout_of(), 1),
                            ProgramLimits(4, 1, 4, 8))  # fmt: skip
    table = np.zeros((1, 1), np.int32)
    program.prepare(step_inputs([[1, 2, 3, 4]], [4], [table]))
    with pytest.raises(ValueError, match="a step of 5 tokens exceeds the program's 4"):
        program.prepare(step_inputs([[1, 2, 3, 4, 5]], [0], [table]))
    with pytest.raises(ValueError, match="a step of 9 context exceeds the program's 8"):
        program.prepare(step_inputs([[1]], [8], [table]))
    with pytest.raises(ValueError, match="needs 1 page tables"):
        program.prepare(step_inputs([[1]], [0], [table, table]))


def test_weights_take_what_was_planned_and_unknown_formats_are_refused() -> None:
    backend = ReferenceBackend()
    tensors = {"m": HostTensor.from_float32("m", random(1, 8, 64), "Q8_0"),
               "v": HostTensor.from_float32("v", random(1, 64), "F16")}  # fmt: skip
    for tensor in tensors.values():
        assert backend.load(tensor).raw.nbytes == backend.weight_bytes(tensor.info)
    unknown = HostTensor(TensorInfo("odd", (2, 4), "I8", 8), (np.zeros((2, 4), np.uint8),))
    with pytest.raises(UnsupportedModelError, match="odd has the format I8"):
        backend.load(unknown)


def test_scratch_bounds_what_a_step_really_takes() -> None:
    import tracemalloc

    from octavo.models.decoder import decoder_forward
    from tests.models.checkpoint_editor import GOLDEN
    from tests.models.harness import load

    backend = ReferenceBackend()
    model = load(GOLDEN / "gemma3_text", backend)
    layout = model.spec.kv_layout("f32", 16)
    limits = ProgramLimits(256, 1, 256, 256)
    tables = [np.arange(16, dtype=np.int32)[None] + 16 * g for g in range(len(layout.groups))]
    kv = backend.allocate_kv(layout, 16 * len(layout.groups))
    program = backend.build(decoder_forward(model.spec), model.weights, kv, limits)
    meta = program.prepare(step_inputs([[1] * 256], [0], tables))
    program.run(meta)
    tracemalloc.start()
    program.run(meta)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert program.scratch_bytes / 4 < peak < program.scratch_bytes
