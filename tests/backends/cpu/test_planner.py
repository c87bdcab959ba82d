"""The recorder and the planner: order, fusions and memory, over forwards made at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.backends.cpu import CpuBackend
from octavo.backends.cpu.graph import Attention, Instruction, Linear, Quantize, RopeTable, StoreKv, Value
from octavo.backends.cpu.kv import described_layers
from octavo.backends.cpu.planner import FUSIONS, Fusion, Plan, plan
from octavo.backends.cpu.recorder import Recording, record
from octavo.backends.cpu.weights import described
from octavo.backends.ops import Forward, KvLayer, Ops, ProgramLimits, RopeSpec, Weight
from octavo.weights.tensor import TensorInfo
from tests.backends.cpu import tiny

WIDTH = tiny.HIDDEN
LIMITS = ProgramLimits(max_tokens=24, max_rows=2, max_samples=9, max_context=64)


def recorded(format: str = "Q8_0", body: Forward = tiny.forward) -> Recording:
    weights = {name: described(tensor.info) for name, tensor in tiny.tensors(format).items()}
    return record(body, weights, described_layers(tiny.layout()))


# ---------------------------------------------------------------- forwards at random

CHOICES = ["norm", "scale", "activate", "add", "gated", "linear", "linear_bias", "residual", "rope", "attention", "ffn"]
Step = tuple[str, int, int]


def random_forward(steps: Sequence[Step], outputs: Sequence[int]) -> Forward:
    """Each step applies an op to earlier values of the same width; `outputs` name values that are returned."""

    def forward(ops: Ops, w: Mapping[str, Weight], kv: Sequence[KvLayer]) -> Mapping[str, Value]:
        values = [ops.embed(w["embed"])]
        for name, i, j in steps:
            values.append(_apply(ops, w, kv, name, values[i % len(values)], values[j % len(values)]))
        found = {f"out{n % len(values)}": values[n % len(values)] for n in outputs}
        return {**found, "logits": ops.logits(ops.gather_rows(values[-1]), w["embed"])}

    return forward


def _apply(ops: Ops, w: Mapping[str, Weight], kv: Sequence[KvLayer], name: str, x: Value, y: Value) -> Value:
    layer = {"q": w["0.q"], "o": w["1.o"], "k": w["0.k"], "v": w["0.v"], "bias": w["0.q_bias"], "norm": w["0.norm"]}
    match name:
        case "norm":
            return ops.rms_norm(x, layer["norm"], eps=1e-5)
        case "scale":
            return ops.scale(x, 0.5)
        case "activate":
            return ops.activate(x, "gelu_tanh")
        case "add":
            return ops.add(x, y)
        case "gated":
            return ops.gated(x, y, "silu")
        case "linear":
            return ops.linear(x, layer["q"])
        case "linear_bias":
            return ops.linear(x, layer["o"], layer["bias"])
        case "residual":
            return ops.add(y, ops.linear(ops.rms_norm(x, layer["norm"], eps=1e-5), layer["o"]))
        case "rope":
            return ops.rope(x, tiny.ROPE, head_dim=tiny.HEAD_DIM)
        case "ffn":
            gate, up = ops.linear(x, w["0.gate"]), ops.linear(x, w["1.up"], w["up_bias"])
            return ops.linear(ops.gated(gate, up, "gelu_tanh"), w["0.down"])
        case _:
            h = ops.rms_norm(y, layer["norm"], eps=1e-5)
            ops.store_kv(ops.linear(h, layer["k"]), ops.linear(h, layer["v"]), kv[0])
            return ops.attention(x, kv[0], num_heads=tiny.HEADS, scale=0.1)


steps = st.lists(st.tuples(st.sampled_from(CHOICES), st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=14)
outputs = st.lists(st.integers(0, 40), max_size=2)


# ---------------------------------------------------------------- what a plan must keep


def check_order(recording: Recording, planned: Plan) -> None:
    """Every value is made before it is read, and pages are written and read in the order of the recording."""
    made: set[int] = set()
    for stage in planned.stages:
        before = set(made)
        for instruction in stage.instructions:
            known = made if stage.kind == "rows" else before
            assert {value.index for value in instruction.reads} <= known
            if instruction.out is not None:
                made.add(instruction.out.index)
        assert {_extent(i) for i in stage.instructions} == {stage.extent}
    staged = [i for stage in planned.stages for i in stage.instructions]
    assert {value.index for value in recording.outputs.values()} <= made
    assert _pages(staged) == _pages(recording.instructions)


def _extent(instruction: Instruction) -> str:
    return (instruction.out or instruction.reads[0]).extent


def _pages(instructions: Sequence[Instruction]) -> list[int]:
    return [
        id(i.kv) if isinstance(i, StoreKv) else i.out.index for i in instructions if isinstance(i, StoreKv | Attention)
    ]


def check_memory(planned: Plan) -> None:
    """Replays the plan over memory: who wrote a byte last must be the value that is read from it."""
    size = {"tokens": planned.token_bytes, "samples": planned.sample_bytes}
    owner = {extent: np.full(n, -1) for extent, n in size.items()}
    pinned: dict[int, tuple[int, int]] = {}

    def place(value: Value) -> tuple[np.ndarray, slice] | None:
        slot = planned.slots[value.index]
        if slot.fixed:
            pinned[value.index] = (slot.offset, slot.stride)
            return None
        assert slot.offset % 64 == 0
        assert slot.offset + slot.stride <= size[value.extent]
        return owner[value.extent], slice(slot.offset, slot.offset + slot.stride)

    for stage in planned.stages:
        # Workers are at different rows: within a stage no value may take bytes of another that the stage still reads,
        # except an operand that dies in the very instruction that replaces it, row by row.
        for n, instruction in enumerate(stage.instructions):
            for value in instruction.reads:
                found = place(value)
                assert found is None or (found[0][found[1]] == value.index).all(), (
                    "a value was overwritten while needed"
                )
            if instruction.out is not None and (made := place(instruction.out)) is not None:
                bytes_of, span = made
                replaced = set(np.unique(bytes_of[span])) - {-1}
                used = {v.index for i in stage.instructions for v in (*i.reads, i.out) if v is not None}
                later = {v.index for i in stage.instructions[n + 1 :] for v in i.reads}
                assert not replaced & later
                for old in replaced & used:
                    assert planned.slots[old] == planned.slots[instruction.out.index]
                    assert old in {v.index for v in instruction.reads}
                bytes_of[span] = instruction.out.index
    spans = sorted((offset, stride) for offset, stride in pinned.values())
    assert all(a[0] < b[0] for a, b in pairwise(spans))


@settings(max_examples=150, deadline=None)
@given(steps, outputs, st.sets(st.sampled_from(sorted(FUSIONS))), st.sampled_from(["Q8_0", "F32"]))
def test_plans_keep_order_and_values(steps: list[Step], outputs: list[int], fuse: set[Fusion], format: str) -> None:
    recording = recorded(format, random_forward(steps, outputs))
    planned = plan(recording, 24, 9, frozenset(fuse))
    check_order(recording, planned)
    check_memory(planned)


@settings(max_examples=25, deadline=None)
@given(steps, outputs, st.sampled_from(sorted(FUSIONS)), st.sampled_from(["Q8_0", "F32", "BF16"]))
def test_fused_programs_give_the_bits_of_unfused(
    steps: list[Step], outputs: list[int], left_out: Fusion, format: str
) -> None:
    body = random_forward(steps, outputs)
    model = tiny.load(BACKEND, format)
    plain = model.program(LIMITS, 10, body, frozenset())
    fused = model.program(LIMITS, 10, body)
    partly = model.program(LIMITS, 10, body, FUSIONS - {left_out})
    tokens = tiny.random_tokens(8, 9)
    for name in {"logits", *(f"out{n % (len(steps) + 1)}" for n in outputs)}:
        for chunk in (9, 2):
            want = tiny.run_chunks(plain, tokens, lambda _, n=chunk: n, name)[0]  # type: ignore[misc]
            for program in (fused, partly):
                found = tiny.run_chunks(program, tokens, lambda _, n=chunk: n, name)[0]  # type: ignore[misc]
                assert np.array_equal(found, want, equal_nan=True)


BACKEND = CpuBackend(threads=2)


# ---------------------------------------------------------------- the decoder's plan


def test_stages_of_a_decoder_layer() -> None:
    """One quantization serves q, k and v; gate, up and their gating are one; sums happen in the products."""
    recording = recorded()
    planned = plan(recording, 24, 9)
    kinds = [stage.kind for stage in planned.stages]
    layer = ["rows", "linear", "rows", "attention", "rows", "linear", "rows", "gated", "linear"]
    assert kinds == layer * tiny.LAYERS + ["rows", "linear"] or kinds == layer * tiny.LAYERS + [
        "rows",
        "rows",
        "linear",
    ]
    counts = [len(stage.instructions) for stage in planned.stages if stage.kind == "linear"]
    assert counts == [3, 1, 1] * tiny.LAYERS + [1]
    found = [i for stage in planned.stages for i in stage.instructions]
    assert sum(isinstance(i, Quantize) for i in found) == 3 * tiny.LAYERS + 1
    assert sum(isinstance(i, RopeTable) for i in found) == 1
    # The first layer's output is an output of the program, which may not be overwritten: that sum stays a sum.
    assert sum(isinstance(i, Linear) and i.add_to is not None for i in found) == 2 * tiny.LAYERS - 2


def test_a_sum_takes_over_no_operand_of_a_moved_product() -> None:
    """p1's product moves behind the sum z, which then may not take over x, p1's operand."""

    def forward(ops: Ops, w: Mapping[str, Weight], kv: Sequence[KvLayer]) -> Mapping[str, Value]:
        x = ops.embed(w["embed"])
        p1 = ops.linear(x, w["0.q"])
        p2 = ops.linear(ops.activate(x, "silu"), w["1.o"])
        y = ops.add(ops.add(x, p2), p1)
        return {"logits": ops.logits(ops.gather_rows(y), w["embed"])}

    recording = recorded("F32", forward)
    planned = plan(recording, 24, 9)
    check_order(recording, planned)
    check_memory(planned)
    model = tiny.load(BACKEND, "F32")
    tokens = tiny.random_tokens(8, 9)
    fused, plain = (
        tiny.run_chunks(model.program(LIMITS, 10, forward, fusions), tokens, lambda _: 9, "logits")[0]
        for fusions in (FUSIONS, frozenset[Fusion]())
    )
    assert np.array_equal(fused, plain)


def test_float_weights_need_no_quantization() -> None:
    assert not [i for i in recorded("F32").instructions if isinstance(i, Quantize)]


def test_memory_does_not_grow_with_layers() -> None:
    def repeated(count: int) -> Forward:
        def forward(ops: Ops, w: Mapping[str, Weight], kv: Sequence[KvLayer]) -> Mapping[str, Value]:
            x = ops.embed(w["embed"])
            for _ in range(count):
                h = ops.rms_norm(x, w["0.norm"], eps=1e-5)
                q = ops.rope(ops.linear(h, w["0.q"], w["0.q_bias"]), tiny.ROPE, head_dim=tiny.HEAD_DIM)
                ops.store_kv(ops.linear(h, w["0.k"]), ops.linear(h, w["0.v"]), kv[0])
                x = ops.add(x, ops.linear(ops.attention(q, kv[0], num_heads=tiny.HEADS, scale=0.1), w["0.o"]))
                h = ops.rms_norm(x, w["0.ffn_norm"], eps=1e-5)
                gated = ops.gated(ops.linear(h, w["0.gate"]), ops.linear(h, w["0.up"]), "silu")
                x = ops.add(x, ops.linear(gated, w["0.down"]))
            return {"logits": ops.logits(ops.gather_rows(x), w["embed"])}

        return forward

    one, twenty = (plan(recorded(body=repeated(count)), 24, 9) for count in (2, 20))
    assert one.token_bytes == twenty.token_bytes
    # The residual, the rope table, a quantized activation and q, k, v, of which q also becomes attention's result.
    floats = WIDTH + 2 * 24 + 2 * WIDTH + tiny.HEADS * tiny.HEAD_DIM
    assert one.token_bytes <= 4 * floats + 2 * WIDTH + 64


# ---------------------------------------------------------------- what the recorder refuses


def case_message(case: str) -> str:
    return {"add": "operands", "store": "store_kv", "heads": "attention", "gather": "gather_rows"}.get(case, r"\d+")


@pytest.mark.parametrize("case", ["norm", "linear", "bias", "add", "rope", "heads", "store", "gather"])
def test_the_recorder_refuses_what_does_not_fit(case: str) -> None:
    def forward(ops: Ops, w: Mapping[str, Weight], kv: Sequence[KvLayer]) -> Mapping[str, Value]:
        x = ops.embed(w["embed"])
        wide = ops.linear(x, w["0.gate"])
        match case:
            case "norm":
                ops.rms_norm(wide, w["0.norm"], eps=1e-5)
            case "linear":
                ops.linear(wide, w["0.q"])
            case "bias":
                ops.linear(x, w["0.gate"], w["0.q_bias"])
            case "add":
                ops.add(x, wide)
            case "rope":
                ops.rope(x, RopeSpec((1.0,) * 40), head_dim=64)
            case "heads":
                ops.attention(x, kv[0], num_heads=3, scale=1.0)
            case "store":
                ops.store_kv(x, x, kv[0])
            case "gather":
                ops.gather_rows(ops.gather_rows(x))
        return {"logits": x}

    with pytest.raises(ValueError, match=case_message(case)):
        recorded(body=forward)


def test_described_weights_are_checked() -> None:
    from octavo.base.errors import UnsupportedModelError

    for shape, format in (((4, 256), "IQ2_S"), ((4, 100), "Q8_0"), ((2, 4, 256), "Q8_0")):
        with pytest.raises(UnsupportedModelError, match="layer"):
            described(TensorInfo("layer", shape, format, 0))
