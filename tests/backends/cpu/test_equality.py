"""A row never feels its neighbours: bits are equal for any number of rows, threads, fusions and cuts, in every format.

And they are what the reference backend means, within the error of 8-bit activations.
"""

from __future__ import annotations

import numpy as np
import pytest

from octavo.backends.cpu import CpuBackend
from octavo.backends.ops import ProgramLimits, SampleRows
from octavo.backends.reference import ReferenceBackend
from tests.backends.cpu.tiny import FORMATS, load, random_tokens, run_chunks
from tests.models.harness import step_inputs

LENGTH = 512
ROWS = [1, 2, 7, 16, 17, 64]
ONE = ProgramLimits(LENGTH, 1, LENGTH, LENGTH)
PAGES = LENGTH // 16
ISAS = ["portable", "avx2", "avx512", "avx512_bf16", "neon", "neon_dotprod", "neon_i8mm"]


@pytest.fixture(params=FORMATS)
def format(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_equal_at_every_number_of_rows_and_threads(format: str) -> None:
    tokens = random_tokens(2, LENGTH)
    backends = [CpuBackend(threads=1), CpuBackend(threads=2)]
    whole = None
    for backend in backends:
        program = load(backend, format).program(ONE, PAGES)
        for output in ("logits", "hidden"):
            found = run_chunks(program, tokens, lambda _: LENGTH, output)[0]
            if output == "logits":
                whole = found if whole is None else whole
                assert np.array_equal(found, whole)
        for rows in ROWS:
            # Chunks of one row cost a step each: the first 80 of them and the rest whole say as much.
            found = run_chunks(program, tokens, lambda s, n=rows: n if s < 80 else LENGTH)[0]  # type: ignore[misc]
            assert np.array_equal(found, whole), f"{rows} rows, {backend.num_threads} threads"


def test_equal_alone_and_in_a_batch(format: str) -> None:
    """17 sequences of uneven lengths, side by side and one by one, decoding at the end."""
    lengths = [1, 3, 16, 17, 40, 65, 2, 9, 33, 5, 12, 70, 1, 31, 15, 48, 64]
    tokens = random_tokens(3, *lengths)
    tiny = load(CpuBackend(threads=2), format)
    together = tiny.program(ProgramLimits(600, len(lengths), 600, 80), 5 * len(lengths))
    alone = tiny.program(ProgramLimits(80, 1, 80, 80), 5)
    found = run_chunks(together, tokens, lambda s: 24 if s < 1 else 1)
    for own, logits in zip(tokens, found, strict=True):
        assert np.array_equal(run_chunks(alone, [own], lambda _: 80)[0], logits)


def test_fused_is_unfused(format: str) -> None:
    tokens = random_tokens(4, 90, 20)
    tiny = load(CpuBackend(threads=2), format)
    limits = ProgramLimits(200, 2, 200, 100)
    fused, plain = tiny.program(limits, 14), tiny.program(limits, 14, fusions=frozenset())
    assert fused.num_stages < plain.num_stages
    assert fused.scratch_bytes < plain.scratch_bytes
    for output in ("logits", "hidden"):
        want = run_chunks(plain, tokens, lambda s: 50 if s < 1 else 3, output)
        found = run_chunks(fused, tokens, lambda s: 50 if s < 1 else 3, output)
        assert all(np.array_equal(a, b) for a, b in zip(found, want, strict=True))


@pytest.mark.parametrize("threads", [1, 2, 5, 16])
def test_equal_with_more_threads_than_cores(threads: int) -> None:
    tokens = random_tokens(5, 70, 33, 64)
    limits = ProgramLimits(200, 3, 200, 80)
    want = run_chunks(load(CpuBackend(threads=2), "Q8_0").program(limits, 15), tokens, lambda _: 11)
    found = run_chunks(load(CpuBackend(threads=threads), "Q8_0").program(limits, 15), tokens, lambda _: 11)
    assert all(np.array_equal(a, b) for a, b in zip(found, want, strict=True))


@pytest.mark.parametrize("isa", ISAS)
def test_replay_means_what_the_reference_means(format: str, isa: str) -> None:
    from octavo import _kernels

    if isa not in _kernels.machine_isas():
        pytest.skip(f"NOT TESTED: this machine has no {isa}")
    tokens = random_tokens(6, 37, 20)
    limits = ProgramLimits(64, 2, 64, 40)
    cpu, reference = CpuBackend(threads=2, isa=isa), ReferenceBackend()
    want = run_chunks(load(reference, format).program(limits, 6), tokens, lambda _: 29)
    found = run_chunks(load(cpu, format).program(limits, 6), tokens, lambda _: 29)
    tolerance = 1e-4 if format in ("F32", "F16") else 0.01 if format == "BF16" else 0.025
    for logits, goal in zip(found, want, strict=True):
        assert np.sqrt(np.mean((logits - goal) ** 2)) < tolerance * np.sqrt(np.mean(goal**2))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_a_submitted_step_is_a_run(threads: int) -> None:
    """Whatever the caller does before it joins, sampling on the same pool included; and every submit has one join."""
    limits = ProgramLimits(40, 2, 40, 40)
    tokens = random_tokens(7, 20)
    tiny = load(CpuBackend(threads=threads), "Q8_0")
    program, pages = tiny.program(limits, 5), np.arange(2, dtype=np.int32)[None]
    meta = program.prepare(step_inputs(tokens, [0], [pages]))
    want = np.array(program.run(meta)["logits"])
    kinds = (np.float32, np.int32, np.float32, np.float32, np.uint64, np.int32)
    rows = SampleRows(*(np.zeros(3, kind) for kind in kinds))
    for _ in range(20):
        program.submit(meta)
        assert tiny.backend.sample(want[:3], rows).tolist() == want[:3].argmax(1).tolist()
        assert np.array_equal(program.join()["logits"], want)
    with pytest.raises(RuntimeError, match="no step"):
        program.join()
    program.submit(meta)
    with pytest.raises(RuntimeError, match="not joined"):
        program.submit(meta)
    assert np.array_equal(program.join()["logits"], want)


def test_a_program_may_end_with_a_step_under_way() -> None:
    tiny = load(CpuBackend(threads=2), "Q8_0")
    program = tiny.program(ProgramLimits(40, 2, 40, 40), 5)
    program.submit(program.prepare(step_inputs(random_tokens(7, 20), [0], [np.arange(2, dtype=np.int32)[None]])))
    del program
    again = tiny.program(ProgramLimits(40, 2, 40, 40), 5)
    assert run_chunks(again, random_tokens(7, 20), lambda _: 20)
