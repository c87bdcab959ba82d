"""The CPU backend's own promises: sizes known beforehand, memory, refusals, sharing of workers, life and death."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from octavo import _kernels
from octavo.backends.cpu import CpuBackend
from octavo.backends.ops import NOT_A_NUMBER, KvLayer, Ops, ProgramLimits, SampleRows, Value, Weight
from octavo.backends.reference import sampling as reference
from octavo.base.config import EngineArgs
from octavo.base.errors import ConfigError, MemoryPlanError, UnsupportedModelError
from octavo.weights.formats import dequantize
from octavo.weights.geometry import GEOMETRY
from octavo.weights.loader import HostTensor
from octavo.weights.tensor import TensorInfo
from octavo.wiring import make_backend
from tests.backends.cpu import tiny
from tests.models.harness import step_inputs

ROOT = Path(__file__).parents[3]
LIMITS = ProgramLimits(max_tokens=20, max_rows=3, max_samples=6, max_context=64)


# ---------------------------------------------------------------- sizes and memory


@pytest.mark.parametrize("format", tiny.FORMATS)
def test_loading_takes_what_was_announced(format: str) -> None:
    """In a process of its own, resident memory grows by the packed size: nothing is expanded to floats."""
    done = subprocess.run(
        [sys.executable, "-c", f"from tests.backends.cpu.test_backend import load_alone; load_alone({format!r})"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    announced, grown, in_file = (int(word) for word in done.stdout.split())
    slack = 1 << 20
    assert announced - slack < grown < announced + slack
    assert announced <= in_file + 4096


def load_alone(format: str) -> None:
    """Prints weight_bytes, the growth of resident memory while loading, and the bytes in the file."""
    shape = (4096, 2048)
    geometry = GEOMETRY[format]
    row = shape[1] // geometry.length * geometry.nbytes
    raw = np.ones((shape[0], row), np.uint8)
    info = TensorInfo("w", shape, format, raw.nbytes)
    backend = CpuBackend(threads=2)
    backend.load(HostTensor(replace(info, shape=(64, shape[1]), nbytes=64 * row), (raw[:64],)))  # warms the allocator
    before = _resident()
    weight = backend.load(HostTensor(info, (raw,)))
    grown = _resident() - before
    assert weight.matrix is not None
    assert weight.matrix.nbytes == backend.weight_bytes(info)
    print(backend.weight_bytes(info), grown, raw.nbytes)


def _resident() -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon"))


@pytest.mark.parametrize("format", ["F32", "BF16", "Q4_K"])
@pytest.mark.parametrize("threads", [1, 3])
def test_scratch_is_known_without_loading(format: str, threads: int) -> None:
    backend = CpuBackend(threads=threads)
    infos = {name: tensor.info for name, tensor in tiny.tensors(format).items()}
    announced = backend.scratch_bytes(tiny.forward, infos, tiny.layout(), LIMITS)
    program = tiny.load(backend, format).program(LIMITS, 4)
    assert announced == program.scratch_bytes + backend.sampler_bytes(tiny.VOCAB)
    assert backend.sampler_bytes(tiny.VOCAB) >= threads * 3 * 4 * tiny.VOCAB
    wider = replace(LIMITS, max_tokens=40)
    assert announced < backend.scratch_bytes(tiny.forward, infos, tiny.layout(), wider)


@pytest.mark.parametrize("format", tiny.FORMATS)
def test_packed_rows_are_the_files(format: str) -> None:
    """Each row, also of joined and re-ordered tensors, dequantizes to the file's values bit for bit."""
    rng = np.random.default_rng(3)
    parts = [tiny.random_matrix(rng, name, shape, format) for name, shape in (("a", (20, 512)), ("b", (9, 512)))]
    joined = HostTensor.joined("ab", parts).rows_permuted(rng.permutation(29))
    sliced = joined.row_slice(3, 25).column_slice(256, 512) if joined.order is None else joined
    for tensor in (parts[0], parts[0].column_slice(256, 512), joined, sliced):
        weight = CpuBackend(threads=2).load(tensor)
        want = dequantize(format, tensor.rows(), tensor.info.shape)
        found = np.array([weight.row(i) for i in range(tensor.info.shape[0])])
        assert np.array_equal(found.view(np.uint32), want.view(np.uint32))


def test_parts_that_run_backwards_are_refused() -> None:
    backend = CpuBackend(threads=1)
    raw = np.zeros((4, 256), np.uint8)
    with pytest.raises(ValueError, match="backwards"):
        _kernels.Matrix(backend.pool, 0, 4, 64, [raw[::-1]])
    assert _kernels.Matrix(backend.pool, 0, 1, 64, [raw[::-1][:1]]).nbytes


def test_outputs_are_never_copies() -> None:
    backend = CpuBackend(threads=1)
    matrix = _kernels.Matrix(backend.pool, 0, 1, 64, [np.zeros((1, 256), np.uint8)])
    logits, one = np.zeros((1, 8), np.float32), np.zeros(1, np.float32)
    sampler, ints = _kernels.Sampler(backend.pool, backend.isa), np.zeros(1, np.int32)
    controls = (one, ints, one, one, np.zeros(1, np.uint64), ints)
    sampler.sample(logits, *controls, np.empty(1, np.int32))
    matrix.row(0, np.empty(64, np.float32))
    for wrong in (np.empty(64), np.empty(128, np.float32)[::2]):
        with pytest.raises(TypeError):
            matrix.row(0, wrong)  # type: ignore[arg-type]
    for out in (np.empty(1), np.empty(1, np.int64)):
        with pytest.raises(TypeError):
            sampler.sample(logits, *controls, out)  # type: ignore[arg-type]
    for wrong in (logits.astype(np.float64), np.zeros((8, 1), np.float32).T.repeat(2, 1)[:, ::2]):
        with pytest.raises(TypeError):
            sampler.sample(wrong, *controls, np.empty(1, np.int32))  # type: ignore[arg-type]


def test_vectors_become_floats() -> None:
    values = np.linspace(-2, 2, 48, dtype=np.float32)
    for format in ("F32", "F16", "BF16"):
        tensor = HostTensor.from_float32("bias", values, format)
        weight = CpuBackend(threads=1).load(tensor)
        assert weight.vector is not None
        assert len(weight.vector) == 48
        assert CpuBackend(threads=1).weight_bytes(tensor.info) == 4 * 48


def test_formats_without_kernels_are_refused_by_name() -> None:
    info = TensorInfo("layer.weight", (16, 256), "IQ4_XS", 16 * 136)
    tensor = HostTensor(info, (np.zeros((16, 136), np.uint8),))
    with pytest.raises(UnsupportedModelError, match=r"layer\.weight.*IQ4_XS.*Q4_K"):
        CpuBackend(threads=1).load(tensor)


# ---------------------------------------------------------------- steps


def fresh(num_pages: int = 12) -> tuple[CpuBackend, object]:
    backend = CpuBackend(threads=2)
    return backend, tiny.load(backend, "Q8_0").program(LIMITS, num_pages)


def test_steps_outside_the_limits_are_refused() -> None:
    _, program = fresh()
    good = step_inputs([[1, 2], [3]], [15, 0], [np.array([[0, 1], [2, 3]])])
    program.run(program.prepare(good))  # type: ignore[attr-defined]
    table = good.page_tables[0]
    bad = {
        "token_ids": np.array([1, tiny.VOCAB, 3], np.int32),
        "positions": np.array([15, 17, 0], np.int32),
        "row_starts": np.array([0, 1, 2], np.int32),
        "context_lens": np.array([18, 1], np.int32),
        "sample_rows": np.array([3], np.int32),
        "page_tables": (np.where(table == 1, 12, table).astype(np.int32),),
    }
    for name, array in bad.items():
        with pytest.raises(ValueError, match=name if name != "row_starts" else "row"):
            program.prepare(replace(good, **{name: array}))  # type: ignore[attr-defined]
    for tables in ((np.where(table == 1, -1, table).astype(np.int32),), (table[:, :1].copy(),), ()):
        with pytest.raises(ValueError, match="page_tables"):
            program.prepare(replace(good, page_tables=tables))  # type: ignore[attr-defined]
    too_many = [
        step_inputs([[1] * 21], [0], [np.array([[0, 1]])]),
        step_inputs([[1]] * 4, [0] * 4, [np.arange(4)[:, None]]),
        step_inputs([[1]], [64], [np.arange(5)[None]]),
        step_inputs([[1] * 7], [0], [np.array([[0]])]),
    ]
    for step in too_many:
        with pytest.raises(ValueError, match=r"limit"):
            program.prepare(step)  # type: ignore[attr-defined]


def test_positions_do_not_wrap_around() -> None:
    _, program = fresh()
    last = 2**31 - 1
    step = replace(
        step_inputs([[1, 2]], [0], [np.array([[0]])]),
        positions=np.array([last, -last - 1], np.int32), context_lens=np.array([-last], np.int32),
    )  # fmt: skip
    with pytest.raises(ValueError, match="rise"):
        program.prepare(step)  # type: ignore[attr-defined]


def test_programs_run_their_own_steps() -> None:
    backend = CpuBackend(threads=1)
    model = tiny.load(backend, "Q8_0")
    first, second = model.program(LIMITS, 2), model.program(LIMITS, 2)
    step = first.prepare(step_inputs([[1]], [0], [np.array([[0]])]))
    with pytest.raises(ValueError, match="another program"):
        second.run(step)
    first.run(step)


def test_programs_are_built_in_order() -> None:
    pool = CpuBackend(threads=1).pool
    limits = _kernels.StepLimits(8, 2, 2, 32, 10, 16, 4, 1, 0)
    buffer = _kernels.Buffer(0, 0, 64)
    nothing = np.zeros(0, np.int32)

    def chain() -> _kernels.RowChain:
        chain = _kernels.RowChain()
        chain.scale(buffer, buffer, 2.0, 16)
        return chain

    program = _kernels.Program(pool, "portable", limits)
    with pytest.raises(RuntimeError, match="sealed"):
        program.view(0, 1, 1)
    with pytest.raises(RuntimeError, match="sealed"):
        program.prepare(nothing, nothing, np.zeros(1, np.int32), nothing, [], nothing)
    program.add_rows(0, chain())
    program.seal(64, 64, 128, 0)
    assert program.view(64, 1, 16).shape == (1, 16)
    for offset, rows, width in ((64, 2, 16), (-64, 1, 1), (0, 2**40, 2**40)):
        with pytest.raises((IndexError, ValueError)):
            program.view(offset, rows, width)
    with pytest.raises(RuntimeError, match="sealed"):
        program.add_rows(0, chain())


@pytest.mark.parametrize(("place", "group"), [(2, 0), (-1, 0), (0, 1), (0, -1)])
def test_places_and_groups_are_checked(place: int, group: int) -> None:
    """With one KV group and two layers to a page."""
    pool = CpuBackend(threads=1).pool
    pages = _kernels.KvPages(0, 16, 1, 16, 2, 4)
    program = _kernels.Program(pool, "portable", _kernels.StepLimits(8, 2, 2, 32, 10, 16, 4, 1, 0))
    buffer = _kernels.Buffer(0, 0, 64)
    with pytest.raises((IndexError, ValueError), match=r"place|group"):
        program.add_attention(buffer, buffer, pages, place, group, 1, 0, 1.0, 0.0, None, buffer)
    with pytest.raises((IndexError, ValueError), match=r"place|group"):
        chain = _kernels.RowChain()
        chain.store_kv(buffer, buffer, pages, place, group)
        program.add_rows(0, chain)


def test_a_step_may_sample_nothing() -> None:
    _, program = fresh()
    step = replace(step_inputs([[1, 2]], [0], [np.array([[0]])]), sample_rows=np.empty(0, np.int32))
    assert program.run(program.prepare(step))["logits"].shape == (0, tiny.VOCAB)  # type: ignore[attr-defined]


def test_two_prepared_steps_do_not_disturb_each_other() -> None:
    _, program = fresh()
    steps = [step_inputs([[5, 6, 7]], [0], [np.array([[page]])]) for page in (0, 1)]
    metas = [program.prepare(step) for step in steps]  # type: ignore[attr-defined]
    first, second = (np.array(program.run(meta)["logits"]) for meta in metas)  # type: ignore[attr-defined]
    assert np.array_equal(first, second)


def test_pages_are_cleared_and_copied() -> None:
    backend = CpuBackend(threads=2)
    model = tiny.load(backend, "Q8_0")
    kv = backend.allocate_kv(tiny.layout(), 6)
    program = backend.build(tiny.forward, model.weights, kv, LIMITS)

    def last(tokens: list[int], start: int, pages: list[int]) -> np.ndarray:
        step = step_inputs([tokens], [start], [np.array([pages])])
        return np.array(program.run(program.prepare(step))["logits"][-1])

    kv.zero_pages(range(6))
    last([1, 2, 3, 4], 0, [2])
    want = last([5], 4, [2])
    kv.copy_pages([(2, 4)])
    assert np.array_equal(last([5], 4, [4]), want)
    kv.zero_pages([4])
    assert not np.array_equal(last([5], 4, [4]), want)
    with pytest.raises(IndexError, match="6"):
        kv.zero_pages([6])
    with pytest.raises(ConfigError, match="24"):
        backend.allocate_kv(tiny.layout(page_size=24), 1)


def test_pages_beyond_memory_are_refused_with_numbers() -> None:
    with pytest.raises(MemoryPlanError, match=r"KV pages.*GiB"):
        CpuBackend(threads=1).allocate_kv(tiny.layout(), 2**46 // tiny.layout().page_bytes * 2)


# ---------------------------------------------------------------- workers


def test_backends_share_workers() -> None:
    first = CpuBackend(threads=2)
    second = CpuBackend(pool=first.pool)
    assert second.pool is first.pool
    tokens = tiny.random_tokens(1, 20)
    one, two = (tiny.load(b, "Q8_0").program(LIMITS, 2) for b in (first, second))
    first.close()
    found = [tiny.run_chunks(p, tokens, lambda _: 6)[0] for p in (one, two)]
    assert np.array_equal(*found)


def test_heartbeat_rises_with_work_alone() -> None:
    backend, program = fresh()
    meta = program.prepare(step_inputs([[1]], [0], [np.array([[0]])]))  # type: ignore[attr-defined]
    before = backend.heartbeat
    program.run(meta)  # type: ignore[attr-defined]
    assert backend.heartbeat > before
    assert backend.heartbeat == backend.heartbeat


def test_levels_and_threads_are_checked() -> None:
    with pytest.raises(ConfigError, match="mmx"):
        CpuBackend(isa="mmx")
    with pytest.raises(ConfigError, match="0"):
        CpuBackend(threads=0)
    assert CpuBackend(isa="portable", threads=3).description == "cpu portable, 3 threads"
    assert 1 <= CpuBackend().num_threads == _kernels.Pool.allowed_cores()


def test_threads_follow_the_affinity_mask() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert CpuBackend().num_threads == 1
        assert CpuBackend(threads=3).num_threads == 3
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize("numa", ["auto", "distribute", "isolate", "numactl"])
def test_placement_changes_no_bits(numa: str) -> None:
    limits, tokens = ProgramLimits(20, 1, 20, 20), [[1, 2, 3]]
    want = tiny.run_chunks(tiny.load(CpuBackend(threads=2), "Q8_0").program(limits, 2), tokens, lambda _: 3)[0]
    placed = tiny.load(CpuBackend(threads=3, numa=numa), "Q8_0").program(limits, 2)
    assert np.array_equal(tiny.run_chunks(placed, tokens, lambda _: 3)[0], want)


def test_unknown_placements_are_refused() -> None:
    with pytest.raises(ConfigError, match="everywhere"):
        CpuBackend(numa="everywhere")
    with pytest.raises(ConfigError, match="numa"):
        EngineArgs(numa="everywhere")
    with pytest.raises(ConfigError, match="numa"):
        make_backend(EngineArgs(backend="reference", numa="isolate"))
    with pytest.raises(ConfigError, match="threads is for the CPU backend"):
        make_backend(EngineArgs(backend="reference", threads=4))


def test_the_environment_lowers_the_level(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCTAVO_ISA", "portable")
    assert CpuBackend(threads=1).isa == "portable"
    monkeypatch.setenv("OCTAVO_ISA", "sse9")
    with pytest.raises(ConfigError, match="sse9"):
        CpuBackend(threads=1)


def test_a_process_ends_while_workers_sleep() -> None:
    """Interpreter exit with a living pool, and work in a forked child, neither hang nor crash."""
    script = (
        "import os\n"
        "from octavo.backends.cpu import CpuBackend\n"
        "from tests.backends.cpu import tiny\n"
        "from octavo.backends.ops import ProgramLimits\n"
        "program = tiny.load(CpuBackend(threads=4), 'Q8_0').program(ProgramLimits(20, 1, 20, 20), 2)\n"
        "want = tiny.run_chunks(program, [[1, 2, 3]], lambda _: 2)[0]\n"
        "child = os.fork()\n"
        "same = (tiny.run_chunks(program, [[1, 2, 3]], lambda _: 2)[0] == want).all()\n"
        "if child == 0: os._exit(0 if same else 3)\n"
        "assert same and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_sampling_in_parallel_is_sampling_alone() -> None:
    rng = np.random.default_rng(2)
    logits = rng.standard_normal((9, 700)).astype(np.float32) * 3
    rows = SampleRows(
        temperature=np.full(9, 0.9, np.float32), top_k=np.full(9, 50, np.int32), top_p=np.full(9, 0.95, np.float32),
        min_p=np.zeros(9, np.float32), seeds=np.arange(9, dtype=np.uint64), positions=np.arange(9, dtype=np.int32),
    )  # fmt: skip
    backend = CpuBackend(threads=3)
    together = backend.sample(logits, rows)
    for i in range(9):
        own = SampleRows(*(getattr(rows, f)[i : i + 1] for f in SampleRows.__dataclass_fields__))
        assert backend.sample(logits[i : i + 1], own)[0] == together[i]
    assert (
        len(backend.sample(logits[:0], SampleRows(*(getattr(rows, f)[:0] for f in SampleRows.__dataclass_fields__))))
        == 0
    )


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_row_with_nan_says_so(temperature: float) -> None:
    """As the reference does. Rows beside it are as without."""
    logits = np.random.default_rng(5).standard_normal((4, 700)).astype(np.float32)
    rows = SampleRows(
        temperature=np.full(4, temperature, np.float32), top_k=np.full(4, 20, np.int32),
        top_p=np.full(4, 0.9, np.float32), min_p=np.full(4, 0.1, np.float32), seeds=np.arange(4, dtype=np.uint64),
        positions=np.arange(4, dtype=np.int32),
    )  # fmt: skip
    backend = CpuBackend(threads=2)
    healthy = backend.sample(logits, rows)
    logits[1, [37, 500]] = np.nan
    logits[2, 699] = np.nan
    logits[3] = np.nan
    found = backend.sample(logits, rows)
    assert found.tolist() == [healthy[0], NOT_A_NUMBER, NOT_A_NUMBER, NOT_A_NUMBER]
    assert np.array_equal(found, reference.sample(logits, rows))


@pytest.mark.parametrize("threads", [1, 4])
def test_nan_keys_reach_every_token_that_sees_them(threads: int) -> None:
    """A whole split of scores that are NaN is no split without keys."""
    backend = CpuBackend(threads=threads)
    tensors = tiny.tensors("F32")
    embed = np.random.default_rng(6).standard_normal((tiny.VOCAB, tiny.HIDDEN)).astype(np.float32)
    embed[7] = np.nan
    tensors["embed"] = HostTensor.from_float32("embed", embed)
    model = tiny.Tiny(backend, {name: backend.load(tensor) for name, tensor in tensors.items()})
    limits = ProgramLimits(max_tokens=256, max_rows=1, max_samples=1, max_context=700)

    def forward(ops: Ops, w: Mapping[str, Weight], kv: Sequence[KvLayer]) -> Mapping[str, Value]:
        x = ops.embed(w["embed"])
        ops.store_kv(ops.linear(x, w["0.k"]), ops.linear(x, w["0.v"]), kv[0])
        out = ops.attention(ops.linear(x, w["0.q"]), kv[0], num_heads=tiny.HEADS, scale=0.1)
        return {"hidden": ops.gather_rows(out)}

    table = np.arange(44, dtype=np.int32)[None]
    for token in (3, 7):
        program = model.program(limits, 44, forward)
        for start, tokens in ((0, [token] * 256), (256, [3] * 256), (512, [3] * 90), (602, [3])):
            step = replace(step_inputs([tokens], [start], [table]), sample_rows=np.array([len(tokens) - 1], np.int32))
            found = program.run(program.prepare(step))["hidden"]
            assert np.isnan(found).all() == np.isnan(found).any() == (token == 7)
