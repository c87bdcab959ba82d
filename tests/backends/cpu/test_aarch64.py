"""The kernels of aarch64 on another machine: cross-compiled and emulated, all shapes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.soak
def test_kernels_under_emulation() -> None:
    missing = [tool for tool in ("aarch64-linux-gnu-g++", "qemu-aarch64", "cmake") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"NOT TESTED: the kernels of aarch64, without {', '.join(missing)}")
    run = subprocess.run(["make", "test-neon", "NEON_GRID=full"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("100% tests passed") == 3
