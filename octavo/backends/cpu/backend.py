"""CpuBackend: packs weights, allocates pages, records and plans forwards, samples, all over one pool of workers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from octavo import _kernels
from octavo.backends.cpu import weights as cpu_weights
from octavo.backends.cpu.cost import Cost, StepShape, costs_of
from octavo.backends.cpu.kv import CpuKv, check_layout, described_layers
from octavo.backends.cpu.planner import FUSIONS, Fusion, Plan, plan
from octavo.backends.cpu.program import CpuProgram, arena_bytes, sizes_of, step_limits
from octavo.backends.cpu.recorder import Recording, record
from octavo.backends.cpu.weights import CpuWeight
from octavo.backends.ops import F32, I32, Forward, KvLayout, ProgramLimits, RowLogprobs, SampleRows
from octavo.base.config import MAX_THREADS
from octavo.base.errors import ConfigError, MemoryPlanError
from octavo.weights.loader import HostTensor
from octavo.weights.tensor import TensorInfo


class CpuBackend:
    """Implements `octavo.backends.ops.Backend`.

    `threads` counts all workers, the caller of a step included; None takes the physical cores that this process may
    use. `isa` forces a lower instruction-set level than the machine's (so does the environment variable OCTAVO_ISA).
    `numa` as EngineArgs.numa. `pool` shares the workers of another backend. `fusions` are what the planner may join
    (`planner.FUSIONS`): results are equal with any of them, only times differ. `lock` keeps weights and KV pages from
    being swapped out. Raises ConfigError for a level, a number or a name that does not exist here.
    """

    name = "cpu"

    def __init__(
        self,
        threads: int | None = None,
        isa: str | None = None,
        *,
        numa: str = "auto",
        pool: _kernels.Pool | None = None,
        fusions: frozenset[Fusion] = FUSIONS,
        lock: bool = False,
    ) -> None:
        if threads is not None and not 1 <= threads <= MAX_THREADS:
            raise ConfigError(f"threads must be from 1 to {MAX_THREADS}, got {threads}.")
        self.fusions = fusions
        self._lock = lock
        self._arena: _kernels.WeightArena | None = None
        try:
            self.isa = isa or _kernels.detect_isa()
            self.pool = pool or _kernels.Pool(threads or 0, numa)
            self._sampler = _kernels.Sampler(self.pool, self.isa)
        except ValueError as error:
            raise ConfigError(str(error)) from None

    @property
    def num_threads(self) -> int:
        return self.pool.size

    @property
    def numerics(self) -> str:
        return f"cpu-{self.isa}"

    @property
    def description(self) -> str:
        """What results depend on besides weights, and the threads, on which they do not: for `info`."""
        return f"cpu {self.isa}, {self.num_threads} threads"

    @property
    def heartbeat(self) -> int:
        """Rises with every stage that is computed, also while a step runs in another thread."""
        return self.pool.heartbeat

    def weight_bytes(self, info: TensorInfo) -> int:
        return cpu_weights.weight_bytes(info)

    def reserve(self, infos: Iterable[TensorInfo]) -> None:
        matrices = sum(cpu_weights.weight_bytes(info) for info in infos if len(info.shape) == 2)
        try:
            self._arena = _kernels.WeightArena(matrices)
        except MemoryError:
            raise MemoryPlanError(
                f"{matrices / 2**30:.2f} GiB of weights are more than the system gives to this process. Use a smaller "
                "quantization, or raise the process's limit (ulimit -v, container memory)."
            ) from None
        if nodes := self.pool.weight_nodes:
            self._arena.interleave(nodes)  # where the system declines, pages lie where they are first touched
        self._locked("weights", self._arena)

    def load(self, tensor: HostTensor) -> CpuWeight:
        weight = cpu_weights.load(tensor, self.pool, self._arena)
        if self._arena is not None and not self._arena.left:
            self._arena = None  # the last one: the memory is the weights' alone, and goes with them
        return weight

    def allocate_kv(self, layout: KvLayout, num_pages: int) -> CpuKv:
        try:
            kv = CpuKv(layout, num_pages)
        except MemoryError:
            raise MemoryPlanError(
                f"{num_pages} KV pages of {layout.page_bytes} bytes ({num_pages * layout.page_bytes / 2**30:.2f} GiB) "
                "are more than the system gives to this process. Lower --kv-memory, or raise the process's limit "
                "(ulimit -v, container memory)."
            ) from None

        self._locked("KV pages", kv.pages)
        return kv

    def _locked(self, what: str, memory: _kernels.WeightArena | _kernels.KvPages) -> None:
        """Locks pages as they are touched, which for weights is while they are packed."""
        if self._lock and (error := memory.lock()):
            raise MemoryPlanError(
                f"The system refuses to lock the {what} in memory ({os.strerror(error)}). Raise RLIMIT_MEMLOCK "
                "(`ulimit -l unlimited`, LimitMEMLOCK=infinity for systemd, --ulimit memlock=-1 for containers), or "
                "leave out --mlock."
            )

    def scratch_bytes(
        self, forward: Forward, weights: Mapping[str, TensorInfo], layout: KvLayout, limits: ProgramLimits
    ) -> int:
        check_layout(layout)
        described = {name: cpu_weights.described(info) for name, info in weights.items()}
        recording = record(forward, described, described_layers(layout))
        sizes = sizes_of(self._plan(recording, limits), limits)
        arena = arena_bytes(step_limits(recording, limits, layout, 1, sizes), sizes, self.num_threads)
        logits = recording.outputs.get("logits")
        return arena + (0 if logits is None else self.sampler_bytes(logits.width))

    def step_costs(
        self, forward: Forward, weights: Mapping[str, TensorInfo], layout: KvLayout
    ) -> Callable[[StepShape], list[Cost]]:
        """What a step of some shape must move and compute, by operation; needs no loaded weights."""
        described = {name: cpu_weights.described(info) for name, info in weights.items()}
        instructions = record(forward, described, described_layers(layout)).instructions
        return lambda shape: costs_of(instructions, shape)

    def sampler_bytes(self, vocab_size: int) -> int:
        """What `sample` keeps of memory for rows of that many logits, for all workers."""
        return _kernels.sampler_bytes(self.num_threads, vocab_size)

    def build(
        self,
        forward: Forward,
        weights: Mapping[str, CpuWeight],
        kv: CpuKv,
        limits: ProgramLimits,
    ) -> CpuProgram:
        recording = record(forward, weights, kv.layers)
        planned = self._plan(recording, limits)
        sizes = sizes_of(planned, limits)
        bounds = step_limits(recording, limits, kv.layout, kv.pages.num_pages, sizes)
        return CpuProgram(self.pool, self.isa, planned, limits, bounds, sizes)

    def _plan(self, recording: Recording, limits: ProgramLimits) -> Plan:
        return plan(recording, limits.max_tokens, limits.max_samples, self.fusions)

    def sample(self, logits: F32, rows: SampleRows) -> I32:
        out = np.empty(len(logits), np.int32)
        if len(out):
            self._sampler.sample(
                logits,
                rows.temperature,
                rows.top_k,
                rows.top_p,
                rows.min_p,
                rows.seeds,
                rows.positions,
                out,
            )
        return out

    def logprobs(self, logits: F32, tokens: I32, num_top: int) -> RowLogprobs:
        rows = len(logits)
        found = RowLogprobs(
            values=np.empty(rows, np.float64),
            ranks=np.empty(rows, np.int32),
            top_ids=np.empty((rows, num_top), np.int32),
            top_values=np.empty((rows, num_top), np.float64),
        )
        if rows:
            self._sampler.logprobs(logits, tokens, found.values, found.ranks, found.top_ids, found.top_values)
        return found

    def close(self) -> None:
        """Workers end with the last program, weight or backend that uses them."""
