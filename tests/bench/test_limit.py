"""The limit of a step: its costs and its sum, against numbers worked out by hand."""

from __future__ import annotations

import pytest

from octavo.bench.limit import least_work, limit_s

pytest.importorskip("octavo._kernels", reason="CPU BACKEND ABSENT: the extension octavo._kernels is not built")

from octavo.backends.cpu.backend import CpuBackend
from octavo.backends.cpu.cost import Cost, StepShape
from octavo.backends.cpu.limits import LimitLoops, MachineLimits, median_limits
from tests.backends.cpu import tiny

MACHINE = MachineLimits(bytes_per_s=10e9, operations_per_s={"f32": 1e11, "int8": 4e11})


def test_each_operation_takes_the_longer_of_its_two_ways() -> None:
    memory = Cost(20_000_000, 8_000_000, "int8")  # 2 ms of reading, 20 us of multiplying
    compute = Cost(1_000, 800_000_000, "int8")  # 2 ms of multiplying
    assert limit_s([memory], MACHINE) == pytest.approx(2e-3)
    assert limit_s([compute], MACHINE) == pytest.approx(2e-3)
    assert limit_s([memory, compute], MACHINE) == pytest.approx(4e-3), "a sum over operations, not a maximum of sums"
    assert limit_s([Cost(0, 10**9, "bf16")], MACHINE) == pytest.approx(1e-2), "a missing instruction is done in f32"
    assert limit_s([], MACHINE) == 0


def test_medians_of_limits() -> None:
    samples = [MachineLimits(b, {"f32": f}) for b, f in ((1.0, 30.0), (9.0, 10.0), (2.0, 20.0))]
    assert median_limits(samples) == MachineLimits(2.0, {"f32": 20.0})


def costs(format: str, shape: StepShape) -> list[Cost]:
    backend = CpuBackend(threads=1)
    infos = {name: tensor.info for name, tensor in tiny.tensors(format).items()}
    return backend.step_costs(tiny.forward, infos, tiny.layout())(shape)


def test_costs_of_a_decode_step() -> None:
    """tiny: 2 layers, hidden 256, 4 heads and 2 for keys of 64, inner 512, 290 words; layer 1 sees 40 positions."""
    found = costs("Q8_0", StepShape.decode(3, 100))
    weights = sum(n * k for n, k in tiny.SHAPES.values()) * 2 + 290 * 256
    int8 = [cost for cost in found if cost.arithmetic == "int8"]
    assert sum(cost.nbytes for cost in int8) == weights // 32 * 34
    assert sum(cost.operations for cost in int8) == 2 * 3 * weights
    plain = [cost for cost in found if cost.arithmetic == "f32"]
    token = 2 * 2 * 64 * 2  # keys and values, 2 heads of 64 halves
    embedded, stored = 3 * 256 // 32 * 34, 2 * 3 * token
    assert sum(cost.nbytes for cost in plain) == embedded + stored + 3 * (100 + 40) * token
    attentions = [cost for cost in plain if cost.operations and cost.nbytes]
    assert [cost.operations for cost in attentions] == [3 * 100 * 4 * 4 * 64, 3 * 40 * 4 * 4 * 64]


def test_costs_of_a_prompt_step() -> None:
    """Tokens 30..49: 31 + ... + 50 keys without a window, 31 + ... + 40 + 10 x 40 with one of 40."""
    found = costs("BF16", StepShape.prompt(20, start=30))
    products = [cost for cost in found if cost.arithmetic == "bf16"]
    per_layer = sum(n * k for n, k in tiny.SHAPES.values())
    assert sum(cost.operations for cost in products) == 2 * (20 * 2 * per_layer + 290 * 256), "one row samples"
    assert sum(cost.nbytes for cost in products) == 2 * (2 * per_layer + 290 * 256)
    attentions = [cost for cost in found if cost.arithmetic == "f32" and cost.operations and cost.nbytes]
    assert [cost.operations for cost in attentions] == [810 * 4 * 4 * 64, (355 + 400) * 4 * 4 * 64]
    assert attentions[1].nbytes == 50 * 2 * 2 * 64 * 2, "59 positions are within reach of one of the tokens"


def test_rows_that_sample_nothing_ask_for_no_head() -> None:
    without = costs("Q8_0", StepShape(((16, 16),), 0))
    assert without[-1].nbytes == 0 and without[-1].operations == 0


def test_a_stage_has_the_costs_of_its_instructions() -> None:
    backend = CpuBackend(threads=1)
    from octavo.backends.ops import ProgramLimits

    program = tiny.load(backend, "Q8_0").program(ProgramLimits(8, 2, 8, 64), 8)
    shape = StepShape.decode(2, 33)
    by_stage = program.costs(shape)
    assert len(by_stage) == program.num_stages
    flat = [cost for stage in by_stage for cost in stage]
    assert sum(cost.nbytes for cost in flat) == sum(cost.nbytes for cost in costs("Q8_0", shape))
    assert sum(cost.operations for cost in flat) == sum(cost.operations for cost in costs("Q8_0", shape))


def test_the_least_work_of_requests() -> None:
    work = least_work([(5, 3), (4, 1), (2, 2)], concurrency=2, max_tokens=6)
    assert [(step.rows, step.num_samples) for step in work.prefill] == [
        (((5, 5), (1, 1)), 1), (((3, 4), (2, 2)), 2)
    ]  # fmt: skip
    assert [step.rows for step in work.decode] == [((1, 6), (1, 3)), ((1, 7),)]
    assert least_work([(5, 1)], 1, 6).decode == ()


def test_the_next_request_starts_where_one_ends() -> None:
    work = least_work([(1, 4), (1, 2), (2, 3), (3, 2)], concurrency=2, max_tokens=64)
    assert [step.rows for step in work.decode] == [
        ((1, 2), (1, 2)), ((1, 3), (1, 3)), ((1, 4), (1, 4)), ((1, 4),)
    ]  # fmt: skip
    assert [step.num_samples for step in work.decode] == [2, 2, 2, 1]
    assert [step.rows for step in work.prefill] == [((1, 1), (1, 1)), ((2, 2), (3, 3))], "two at once, not more"


@pytest.mark.parametrize("isa", ["portable", "avx2", "avx512", "avx512_bf16", "neon", "neon_dotprod", "neon_i8mm"])
def test_loops_of_every_level(isa: str) -> None:
    from octavo.base.errors import ConfigError

    try:
        loops = LimitLoops(CpuBackend(threads=2, isa=isa))
    except ConfigError:
        pytest.skip(f"NOT TESTED: this machine has no {isa}")
    assert loops.arithmetics == (("f32", "bf16", "int8") if isa in ("avx512_bf16", "neon_i8mm") else ("f32", "int8"))
    sample = loops.sample()
    assert sample.bytes_per_s > 0 and all(rate > 0 for rate in sample.operations_per_s.values())
    assert loops.copy(1 << 16) > 0 and loops.read(1) > 0
