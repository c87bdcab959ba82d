"""`octavo bench kernels`: every kernel's GB/s and Gop/s beside what the machine did in the same second.

A measurement is a program of one kind of stage over more data than a cache keeps, run through the pool as a model's
stages are. Loops over as many bytes, and of the same arithmetic, run before each run of the kernel; medians of both.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from octavo.backends.cpu.backend import CpuBackend
from octavo.backends.cpu.cost import Cost, StepShape, product_cost
from octavo.backends.cpu.limits import MEMORY_BYTES, LimitLoops, MachineLimits, median_limits
from octavo.backends.cpu.program import CpuProgram
from octavo.backends.cpu.weights import CpuWeight
from octavo.backends.ops import (
    F32,
    I32,
    KV_BYTES,
    Forward,
    KvLayout,
    Ops,
    ProgramLimits,
    RopeSpec,
    SampleRows,
    StepInputs,
    Value,
)
from octavo.base.errors import ConfigError, MemoryPlanError
from octavo.base.types import KvGroup
from octavo.bench.limit import limit_s
from octavo.bench.pages import fill_pages
from octavo.bench.workload import check_positive
from octavo.runner.memory import available_bytes
from octavo.weights.geometry import GEOMETRY, tensor_nbytes
from octavo.weights.loader import HostTensor
from octavo.weights.tensor import TensorInfo

MATRICES = {
    "135m": ((576, 576), (192, 576), (1536, 576), (576, 1536), (49152, 576)),
    "1b": ((2048, 2048), (512, 2048), (8192, 2048), (2048, 8192), (128256, 2048)),
}
"""Outputs and inputs of the products of SmolLM2-135M and Llama-3.2-1B."""

HEADS = {"135m": (9, 3, 64), "1b": (32, 8, 64)}
"""Query heads, key/value heads, width of a head."""

KINDS = ("products", "attention", "rows", "sampling")
FORMATS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
WORKING_SET = 128 << 20
_MOST_OPERATIONS = 4e10  # of one run: some 0.1 s
_PAGE = 16


@dataclass(frozen=True)
class Measured:
    """One kernel at one size: medians. `fraction` is limit / time, `footprint` the bytes that the loops walked."""

    kernel: str
    format: str
    shape: str
    rows: int
    microseconds: float
    gb_per_s: float
    gop_per_s: float
    limit_gb_per_s: float
    limit_gop_per_s: float
    fraction: float
    footprint: int


@dataclass(frozen=True)
class Trial:
    """A kernel ready to run. `run` returns the seconds of one kernel call; `cost` is that call's.

    `limit_bytes` are walked by the loop beside it, copied instead of read where `copies`.
    """

    kernel: str
    format: str
    shape: str
    rows: int
    cost: Cost
    run: Callable[[], float]
    limit_bytes: int
    copies: bool = False


def measure(trial: Trial, loops: LimitLoops, rounds: int) -> Measured:
    """Loop, kernel, loop, kernel ...: medians of `rounds` of each, after one round that does not count."""
    arithmetic = trial.cost.arithmetic if trial.cost.arithmetic in loops.arithmetics else "f32"
    walk = loops.copy if trial.copies else loops.read
    seconds, bandwidth, rate = [], [], []
    for number in range(rounds + 1):
        bandwidth.append(walk(trial.limit_bytes))
        rate.append(loops.multiply(arithmetic))
        seconds.append(trial.run())
        if number == 0:
            del bandwidth[0], rate[0], seconds[0]
    took, limits = (
        statistics.median(seconds),
        MachineLimits(statistics.median(bandwidth), {"f32": statistics.median(rate)}),
    )
    as_measured = Cost(trial.cost.nbytes, trial.cost.operations, "f32")
    return Measured(
        kernel=trial.kernel,
        format=trial.format,
        shape=trial.shape,
        rows=trial.rows,
        microseconds=1e6 * took,
        gb_per_s=1e-9 * trial.cost.nbytes / took,
        gop_per_s=1e-9 * trial.cost.operations / took,
        limit_gb_per_s=1e-9 * limits.bytes_per_s,
        limit_gop_per_s=1e-9 * limits.rate("f32"),
        fraction=limit_s([as_measured], limits) / took,
        footprint=trial.limit_bytes,
    )


# ---------------------------------------------------------------- programs of one kind of stage


def _stage_seconds(program: CpuProgram, step: StepInputs, op: str) -> Callable[[], float]:
    """Runs the step; the median over the stages that begin with `op`."""
    meta = program.prepare(step)
    program.profile(True)

    def run() -> float:
        program.run(meta)
        times = [time.wall_s / time.runs for time in program.take_profile() if time.info.ops[0] == op and time.runs]
        return statistics.median(times)

    return run


def _layout(heads: tuple[int, int, int], layers: int, dtype: Any) -> KvLayout:
    _, kv_heads, head_dim = heads
    return KvLayout((KvGroup("full.0"),), (0,) * layers, tuple(range(layers)), layers, kv_heads, head_dim, dtype, _PAGE)


def _program(backend: CpuBackend, forward: Forward, weights: Mapping[str, CpuWeight], max_tokens: int) -> CpuProgram:
    """A program that asks for no keys and values: its rows are rows of one token each."""
    kv = backend.allocate_kv(_layout((1, 1, 16), 1, "f32"), 1)
    return backend.build(forward, weights, kv, ProgramLimits(max_tokens, max_tokens, max_tokens, _PAGE))


def single_tokens(rows: int, num_ids: int) -> StepInputs:
    """A step of `rows` rows with one token each at position 0, all of them in page 0."""
    return StepInputs(
        np.arange(rows, dtype=np.int32) % num_ids,
        np.zeros(rows, np.int32),
        np.arange(rows + 1, dtype=np.int32),
        np.ones(rows, np.int32),
        (np.zeros((rows, 1), np.int32),),
        np.arange(min(1, rows), dtype=np.int32),
    )


def random_matrix(backend: CpuBackend, format: str, n: int, k: int, seed: int) -> CpuWeight:
    """Random bits whose halves and floats are small and normal in every format: speed does not depend on the values."""
    nbytes = tensor_nbytes(format, (n, k))
    raw = np.random.default_rng(seed).integers(0x10, 0x30, nbytes, np.uint8).reshape(n, -1)
    return backend.load(HostTensor(TensorInfo(f"{format} {n}x{k}", (n, k), format, nbytes), (raw,)))


def products(backend: CpuBackend, format: str, n: int, k: int, row_counts: Sequence[int]) -> Iterator[Trial]:
    """Products with matrices that no cache holds together, one after the other, each with all rows."""
    first = random_matrix(backend, format, n, k, 0)
    nbytes = tensor_nbytes(format, (n, k))
    copies = max(1, -(-WORKING_SET // nbytes))
    matrices = [first, *(random_matrix(backend, format, n, k, seed) for seed in range(1, copies))]
    for rows in row_counts:
        cost = product_cost(first, rows)
        used = min(copies, max(3, int(_MOST_OPERATIONS / cost.operations)))
        weights = {str(i): matrix for i, matrix in enumerate(matrices[:used])}

        def forward(ops: Ops, w: Mapping[str, CpuWeight], kv: Sequence[Any]) -> Mapping[str, Value]:
            x = ops.embed(w["0"])
            for matrix in w.values():
                ops.linear(x, matrix)
            return {"rows": ops.gather_rows(x)}

        program = _program(backend, forward, weights, rows)
        run = _stage_seconds(program, single_tokens(rows, n), "Linear")
        yield Trial("product", format, f"{n}x{k}", rows, cost, run, min(used * nbytes, MEMORY_BYTES))


# ---------------------------------------------------------------- attention


def attention(
    backend: CpuBackend, heads: tuple[int, int, int], dtype: str, rows: int, tokens: int, context: int
) -> Trial:
    """Attention of `rows` rows that compute `tokens` each after `context` - `tokens` others, over several layers."""
    num_heads, _, head_dim = heads
    per_layer = rows * context * _layout(heads, 1, dtype).page_bytes // _PAGE
    layers = max(1, min(16, WORKING_SET // per_layer))
    pages = -(-context // _PAGE)
    kv = backend.allocate_kv(_layout(heads, layers, dtype), rows * pages)
    weights = {"q": random_matrix(backend, "F32", 64, num_heads * head_dim, 1)}
    tables: I32 = np.random.default_rng(3).permutation(rows * pages).astype(np.int32).reshape(rows, pages)

    def forward(ops: Ops, w: Mapping[str, CpuWeight], layers: Sequence[Any]) -> Mapping[str, Value]:
        q = ops.embed(w["q"])
        for layer in layers:
            ops.attention(q, layer, num_heads=num_heads, scale=head_dim**-0.5)
        return {"rows": ops.gather_rows(q)}

    fill_pages(backend, kv, (tables,), context)
    program = backend.build(forward, weights, kv, ProgramLimits(rows * tokens, rows, 1, context))
    run = _stage_seconds(program, _whole_rows(rows, tokens, context, tables), "Attention")
    shape = StepShape(((tokens, context),) * rows, 1)
    cost = next(cost[0] for cost in program.costs(shape) if cost and cost[0].operations and cost[0].nbytes)
    kind = "attention, decode" if tokens == 1 else "attention, prompt"
    label = f"{num_heads}/{heads[1]}x{head_dim} @{context}"
    return Trial(kind, dtype, label, rows * tokens, cost, run, min(layers * per_layer, MEMORY_BYTES))


def _whole_rows(rows: int, tokens: int, context: int, tables: I32) -> StepInputs:
    positions = np.tile(np.arange(context - tokens, context, dtype=np.int32), rows)
    starts = np.arange(0, rows * tokens + 1, tokens, dtype=np.int32)
    contexts = np.full(rows, context, np.int32)
    return StepInputs(positions % 64, positions, starts, contexts, (tables,), np.zeros(1, np.int32))


# ---------------------------------------------------------------- operations on rows, sampling


def row_operations(backend: CpuBackend, width: int, rows: int) -> Iterator[Trial]:
    """Norm, rope, gating and sum: their bytes are activations, read and written."""
    weights = {"x": random_matrix(backend, "F32", 64, width, 1), "norm": _vector(backend, width)}
    rope = RopeSpec(tuple(1e4 ** (-i / 32) for i in range(32)))

    def forward(ops: Ops, w: Mapping[str, CpuWeight], kv: Sequence[Any]) -> Mapping[str, Value]:
        x = ops.embed(w["x"])
        for _ in range(8):
            x = ops.rms_norm(x, w["norm"], eps=1e-5)
            x = ops.rope(x, rope, head_dim=64)
            x = ops.add(x, ops.gated(x, x, "silu"))
        return {"rows": ops.gather_rows(x)}

    program = _program(backend, forward, weights, rows)
    for op, arrays in (("RmsNorm", 2), ("Rope", 2), ("Gated", 2), ("Add", 3)):
        run = _stage_seconds(program, single_tokens(rows, 64), op)
        nbytes = arrays * rows * width * 4
        yield Trial(op.lower(), "f32", str(width), rows, Cost(nbytes, 0), run, nbytes, copies=True)


def _vector(backend: CpuBackend, width: int) -> CpuWeight:
    return backend.load(HostTensor.from_float32("norm", np.ones(width, np.float32)))


SAMPLINGS: Mapping[str, tuple[float, int, float, float]] = {
    "greedy": (0.0, 0, 1.0, 0.0),
    "temperature": (1.0, 0, 1.0, 0.0),
    "top-k 40": (1.0, 40, 1.0, 0.0),
    "top-p 0.95": (1.0, 0, 0.95, 0.0),
    "min-p 0.05": (1.0, 0, 1.0, 0.05),
}
"""Temperature, top-k, top-p, min-p."""


def sampling(backend: CpuBackend, vocab: int, rows: int) -> Iterator[Trial]:
    """Draws from logits of which some tens stand out, as a model's do."""
    draw = np.random.default_rng(4)
    logits: F32 = draw.standard_normal((rows, vocab), np.float32) * np.float32(2)
    logits[:, draw.integers(0, vocab, 30)] += 16 * draw.random((rows, 30), np.float32)
    for name, (temperature, top_k, top_p, min_p) in SAMPLINGS.items():
        chosen = SampleRows(
            np.full(rows, temperature, np.float32),
            np.full(rows, top_k, np.int32),
            np.full(rows, top_p, np.float32),
            np.full(rows, min_p, np.float32),
            np.arange(rows, dtype=np.uint64),
            np.zeros(rows, np.int32),
        )
        cost = Cost(logits.nbytes, 0)
        yield Trial(f"sample, {name}", "f32", str(vocab), rows, cost, _timed(backend, logits, chosen), logits.nbytes)


def _timed(backend: CpuBackend, logits: F32, rows: SampleRows) -> Callable[[], float]:
    import time

    def run() -> float:
        begin = time.perf_counter()
        backend.sample(logits, rows)
        return time.perf_counter() - begin

    return run


# ---------------------------------------------------------------- what to measure


@dataclass(frozen=True)
class Choice:
    """What `octavo bench kernels` was asked for. `shapes` are names of MATRICES, or NxK."""

    kinds: tuple[str, ...]
    shapes: tuple[str, ...]
    formats: tuple[str, ...]
    rows: tuple[int, ...]
    kv_dtype: str = "bf16"

    def __post_init__(self) -> None:
        for given, known, name in ((self.kinds, KINDS, "--kinds"), (self.formats, FORMATS, "--formats"),
                                   ((self.kv_dtype,), tuple(KV_BYTES), "--kv-cache-dtype")):  # fmt: skip
            for value in given:
                if value not in known:
                    raise ConfigError(f"{name} {value!r}: give one of {', '.join(known)}.")
        check_positive(**{f"rows {rows}": rows for rows in self.rows})
        self.matrices()

    def matrices(self) -> list[tuple[int, int]]:
        """Raises ConfigError for a shape that is neither a name nor two numbers."""
        found: dict[tuple[int, int], None] = {}
        for shape in self.shapes:
            for pair in MATRICES.get(shape) or (_pair(shape),):
                found[pair] = None
        return list(found)


def _pair(text: str) -> tuple[int, int]:
    n, cross, k = text.lower().partition("x")
    if not (cross and n.isdigit() and k.isdigit() and int(n) and int(k)):
        raise ConfigError(f"--shapes {text!r}: give {', '.join(MATRICES)} or OUTPUTSxINPUTS such as 2048x2048.")
    return int(n), int(k)


def trials(backend: CpuBackend, choice: Choice) -> Iterator[Trial]:
    """Everything asked for, one by one: each one's memory is let go before the next is made.

    Formats whose blocks do not fit a shape's rows have no trial there.
    """
    names = [name for name in choice.shapes if name in HEADS] or ["1b"]
    if "products" in choice.kinds:
        for n, k in choice.matrices():
            for format in choice.formats:
                if k % GEOMETRY[format].length == 0:
                    yield from products(backend, format, n, k, choice.rows)
    for name in names:
        heads = HEADS[name]
        if "attention" in choice.kinds:
            for rows, tokens, context in ((1, 1, 1024), (1, 1, 8192), (32, 1, 1024), (1, 512, 512), (1, 512, 4096)):
                yield attention(backend, heads, choice.kv_dtype, rows, tokens, context)
        width, vocab = MATRICES[name][0][1], MATRICES[name][-1][0]
        for rows in choice.rows:
            if "rows" in choice.kinds:
                yield from row_operations(backend, width, rows)
            if "sampling" in choice.kinds and rows <= 64:
                yield from sampling(backend, vocab, rows)


def check_memory(choice: Choice, available: int) -> None:
    """Raises MemoryPlanError for matrices (with the bytes they are made of) or rows that are more than is available."""
    rows = max(choice.rows)
    sizes = {f"--rows {rows}": 16 * rows * max(MATRICES[name][0][1] for name in HEADS)}
    for n, k in choice.matrices() if "products" in choice.kinds else ():
        for format in choice.formats:
            if k % GEOMETRY[format].length == 0:
                nbytes = tensor_nbytes(format, (n, k))
                held = max(2 * nbytes, WORKING_SET + nbytes)
                sizes[f"--shapes {n}x{k} in {format} with --rows {rows}"] = held + 4 * rows * (n + 2 * k)
    for what, size in sizes.items():
        if size + MEMORY_BYTES > available:
            raise MemoryPlanError(
                f"{what} takes {(size + MEMORY_BYTES) / 2**30:.2f} GiB, but only {available / 2**30:.2f} GiB of memory "
                "are free. Choose less."
            )


@dataclass(frozen=True)
class KernelResults:
    """Every measurement, and the machine's limits outside of caches, medians over all rounds."""

    isa: str
    threads: int
    gb_per_s: float
    gop_per_s: dict[str, float]
    kernels: list[Measured]


def measure_all(choice: Choice, *, rounds: int, threads: int | None = None, isa: str | None = None,
                show: Callable[[Measured], None] | None = None) -> KernelResults:  # fmt: skip
    """Measures everything asked for; `show` is called with each result as it comes.

    Raises:
        ConfigError: a level or a number that does not exist here.
        MemoryPlanError: more memory than there is.
    """
    check_positive(rounds=rounds)
    check_memory(choice, available_bytes())
    backend = CpuBackend(threads, isa, fusions=frozenset({"memory"}))
    loops = LimitLoops(backend)
    samples = [loops.sample() for _ in range(rounds)]
    found = []
    for trial in trials(backend, choice):
        found.append(measure(trial, loops, rounds))
        if show is not None:
            show(found[-1])
    samples += [loops.sample() for _ in range(rounds)]
    machine = median_limits(samples)
    rates: dict[str, float] = {name: 1e-9 * rate for name, rate in machine.operations_per_s.items()}
    return KernelResults(backend.isa, backend.num_threads, 1e-9 * machine.bytes_per_s, rates, found)


HEAD = " ".join(
    [
        f"{'kernel':20} {'format':6} {'shape':14} {'rows':>5} {'us':>10}",
        f"{'GB/s':>7} {'of':>7} {'Gop/s':>7} {'of':>7}",
        " limit",
    ]
)


def line(m: Measured) -> str:
    """One measurement as a line under HEAD."""
    ops = f"{m.gop_per_s:7.0f} {m.limit_gop_per_s:7.0f}" if m.gop_per_s else f"{'-':>7} {'-':>7}"
    return (
        f"{m.kernel:20} {m.format:6} {m.shape:14} {m.rows:5} {m.microseconds:10.1f} {m.gb_per_s:7.1f} "
        f"{m.limit_gb_per_s:7.1f} {ops} {100 * m.fraction:5.0f}%"
    )


def heading(result: KernelResults) -> str:
    """The machine's limits in words."""
    rates = ", ".join(f"{name} {rate:.0f}" for name, rate in result.gop_per_s.items())
    return f"{result.isa}, {result.threads} threads: memory {result.gb_per_s:.1f} GB/s; Gop/s: {rates}"
