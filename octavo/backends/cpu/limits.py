"""What the machine can do: loops that only read, only copy or only multiply, over the backend's own workers.

Kernels are measured beside them, in the same minute: a shared machine's bandwidth moves by a factor of two. Knows
nothing of kernels and models.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from octavo import _kernels
from octavo.backends.cpu.backend import CpuBackend
from octavo.backends.cpu.cost import Arithmetic

MEMORY_BYTES = 192 << 20  # more than any cache keeps
_NUMBERS: dict[Arithmetic, int] = {"f32": 0, "bf16": 1, "int8": 2}
_SHORTEST_S = 4e-3  # of one measurement: many hand-outs, and far above the clock's grain
_MOST_REPEATS = 1 << 16
_LINE = 512
_Loop = Callable[[int], float]


@dataclass(frozen=True)
class MachineLimits:
    """Rates over all workers. An arithmetic that the level has no instruction for is computed as `f32`."""

    bytes_per_s: float
    operations_per_s: Mapping[Arithmetic, float]

    def rate(self, arithmetic: Arithmetic) -> float:
        """Operations per second, two for a multiply-add."""
        return self.operations_per_s.get(arithmetic, self.operations_per_s["f32"])


class LimitLoops:
    """The loops of a backend's instruction-set level. Takes MEMORY_BYTES of memory, in huge pages where there are."""

    def __init__(self, backend: CpuBackend) -> None:
        self._loops = _kernels.Limits(backend.pool, backend.isa, MEMORY_BYTES)
        self._rounds: dict[Arithmetic, int] = {}

    @property
    def arithmetics(self) -> tuple[Arithmetic, ...]:
        """Those that the level has an instruction for."""
        return tuple(name for name, number in _NUMBERS.items() if self._loops.operations(number, 1))

    def read(self, nbytes: int = MEMORY_BYTES) -> float:
        """Bytes per second of reading `nbytes` again and again: from memory, or from a cache that holds so many."""
        nbytes = _fitting(nbytes)
        return nbytes / _seconds(lambda repeats: self._loops.read(nbytes, repeats))

    def copy(self, nbytes: int) -> float:
        """Bytes per second, read and written, of copying one half of `nbytes` to the other."""
        nbytes = _fitting(nbytes)
        return nbytes / _seconds(lambda repeats: self._loops.copy(nbytes, repeats))

    def multiply(self, arithmetic: Arithmetic) -> float:
        """Operations per second of the level's multiply instruction, all workers at once."""
        number = _NUMBERS[arithmetic]
        rounds = self._rounds.get(arithmetic, 1 << 12)
        seconds = self._loops.multiply(number, rounds)
        while seconds < _SHORTEST_S:
            rounds *= 2
            seconds = self._loops.multiply(number, rounds)
        self._rounds[arithmetic] = rounds
        return self._loops.operations(number, rounds) / seconds

    def sample(self) -> MachineLimits:
        """One measurement of everything, some tens of milliseconds."""
        return MachineLimits(self.read(), {name: self.multiply(name) for name in self.arithmetics})


def median_limits(samples: Sequence[MachineLimits]) -> MachineLimits:
    """The median of each rate."""
    names = samples[0].operations_per_s
    return MachineLimits(
        statistics.median(sample.bytes_per_s for sample in samples),
        {name: statistics.median(sample.operations_per_s[name] for sample in samples) for name in names},
    )


def _fitting(nbytes: int) -> int:
    return min(max(nbytes // (2 * _LINE), 1) * 2 * _LINE, MEMORY_BYTES)


def _seconds(loop: _Loop) -> float:
    """Seconds of one repeat, of as many as make a measurement."""
    repeats = 1
    seconds = loop(repeats)
    while seconds < _SHORTEST_S and repeats < _MOST_REPEATS:
        repeats = min(_MOST_REPEATS, max(2 * repeats, int(repeats * _SHORTEST_S / max(seconds, 1e-9))))
        seconds = loop(repeats)
    return seconds / repeats
