"""Memory of the CPU backend: one arena for a model's matrices, no more bytes than the file's, locking, placement."""

from __future__ import annotations

import errno
import itertools
import os
import re
from pathlib import Path

import numpy as np
import pytest

from octavo import _kernels
from octavo.backends.cpu import CpuBackend
from octavo.base.errors import MemoryPlanError
from octavo.weights.formats import dequantize
from octavo.weights.geometry import GEOMETRY, tensor_nbytes
from octavo.weights.loader import HostTensor
from octavo.weights.tensor import TensorInfo
from tests.backends.cpu import tiny

LANES, LINE = 16, 64  # rows of a packed group are whole groups of 16, a group is whole cache lines
PAGE = os.sysconf("SC_PAGE_SIZE")


def matrix(name: str, format: str, shape: tuple[int, int]) -> HostTensor:
    info = TensorInfo(name, shape, format, tensor_nbytes(format, shape))
    rows = np.random.default_rng(len(name)).integers(0, 256, (shape[0], info.nbytes // shape[0]), np.uint8)
    return HostTensor(info, (rows,))


@pytest.mark.parametrize("format", tiny.FORMATS)
def test_packed_weights_take_no_more_than_the_files_bytes_and_their_padding(format: str) -> None:
    backend = CpuBackend(threads=1)
    length = max(GEOMETRY[format].length, 32)
    for blocks, num_rows in itertools.product((1, 2, 3, 5, 8, 9, 64), (1, 15, 16, 48, 100)):
        shape = num_rows, blocks * length
        packed = backend.weight_bytes(TensorInfo("w", shape, format, tensor_nbytes(format, shape)))
        num_groups = -(-num_rows // LANES)
        in_file = tensor_nbytes(format, (num_groups * LANES, shape[1]))
        assert in_file <= packed < in_file + num_groups * LINE
        if shape[1] % 512 == 0 and num_rows % LANES == 0:
            assert packed == in_file


def test_announced_matrices_lie_together_and_hold_their_rows() -> None:
    backend = CpuBackend(threads=2)
    tensors = [matrix(f"w{i}" * (i + 1), format, (40, 512)) for i, format in enumerate(("Q8_0", "Q4_K", "BF16"))]
    vector = HostTensor.from_float32("norm", np.ones(8, np.float32))
    backend.reserve([tensor.info for tensor in (*tensors, vector)])
    arena = backend._arena
    assert arena is not None
    assert arena.left == sum(backend.weight_bytes(tensor.info) for tensor in tensors)
    loaded = [backend.load(tensor) for tensor in (vector, *tensors)][1:]
    assert arena.left == 0
    assert backend._arena is None, "the memory belongs to the weights alone"
    late = backend.load(matrix("late", "Q8_0", (16, 64)))
    for weight, tensor in [(late, matrix("late", "Q8_0", (16, 64))), *zip(loaded, tensors, strict=True)]:
        want = dequantize(tensor.info.format, tensor.rows(), tensor.info.shape)
        found = np.array([weight.row(i) for i in range(tensor.info.shape[0])])
        assert np.array_equal(found.view(np.uint32), want.view(np.uint32))


def test_weights_go_with_the_last_of_their_arena() -> None:
    arena = _kernels.WeightArena(4096)
    backend = CpuBackend(threads=1)
    kept = _kernels.Matrix(backend.pool, 0, 16, 64, [np.ones((16, 256), np.uint8)], None, arena)
    too_large = _kernels.Matrix(backend.pool, 0, 16, 64, [np.ones((16, 256), np.uint8)], None, arena)
    assert arena.left == 0
    del arena
    for one in (kept, too_large):
        values = np.empty(64, np.float32)
        one.row(15, values)
        assert len(set(values.tolist())) == 1


def locked_bytes() -> int:
    match = re.search(r"^VmLck:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert match is not None
    return int(match[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="NOT TESTED: needs Linux's /proc")
def test_locked_weights_and_pages_are_counted_by_the_system() -> None:
    before = locked_bytes()
    backend = CpuBackend(threads=1, lock=True)
    tensor = matrix("w", "Q8_0", (16, 512))
    backend.reserve([tensor.info])
    weight = backend.load(tensor)
    grown = locked_bytes() - before
    assert grown == -(-backend.weight_bytes(tensor.info) // PAGE) * PAGE
    del weight
    assert locked_bytes() == before


def test_a_system_that_refuses_to_lock_is_reported_with_the_way_out() -> None:
    class Refusing:
        def lock(self) -> int:
            return errno.ENOMEM

    backend = CpuBackend(threads=1, lock=True)
    with pytest.raises(MemoryPlanError, match=r"refuses to lock the weights.*RLIMIT_MEMLOCK"):
        backend._locked("weights", Refusing())  # type: ignore[arg-type]
    CpuBackend(threads=1)._locked("weights", Refusing())  # type: ignore[arg-type]  # nobody asked


@pytest.mark.skipif(not Path("/sys/devices/system/node/node0").exists(), reason="NOT TESTED: no memory nodes here")
def test_pages_are_spread_over_nodes_that_exist_and_no_others() -> None:
    arena = _kernels.WeightArena(1 << 20)
    assert arena.interleave([0]) == 0
    policies = [line for line in Path("/proc/self/numa_maps").read_text().splitlines() if " interleave:0" in line]
    assert policies
    assert arena.interleave([]) == 0
    assert arena.interleave([-1]) == arena.interleave([1 << 20]) == errno.EINVAL
    if not Path("/sys/devices/system/node/node777").exists():
        assert arena.interleave([777]) == errno.EINVAL
