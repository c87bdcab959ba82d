"""What is planned is what is taken: resident memory after loading, for every weight type and both kinds of file.

No type is expanded to floats, the file's pages are let go, and the peak is what is packed and one tensor more.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from octavo.weights.geometry import GEOMETRY
from tools.make_model.folder import write_folder
from tools.make_model.gguf import write_gguf
from tools.make_model.shapes import Shape

pytest.importorskip("octavo._kernels", reason="CPU BACKEND ABSENT: the extension octavo._kernels is not built")
pytestmark = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="NOT TESTED: needs Linux's /proc")

GGUF_TYPES = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]
FOLDER_TYPES = ["F32", "F16", "BF16"]
MODELS = [f"gguf-{name}" for name in GGUF_TYPES] + [f"folder-{name}" for name in FOLDER_TYPES]
WEIGHT_BYTES = 16 << 20  # about
SLACK = 2 << 20  # metadata, worker stacks, what an allocator keeps
LAYER_WEIGHTS, OTHER_WEIGHTS = 9_175_040, 2_097_152

Numbers = dict[str, int]


def shape_of(format: str) -> Shape:
    """As many layers as make about WEIGHT_BYTES in the format."""
    geometry = GEOMETRY[format]
    weights = WEIGHT_BYTES * geometry.length // geometry.nbytes
    layers = max(1, round((weights - OTHER_WEIGHTS) / LAYER_WEIGHTS))
    return Shape("memory", 1024, layers, 16, 4, 2048, 2048, 256, 10_000.0)


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Numbers]:
    """What the probe says of each model, by the names of MODELS."""
    folder = tmp_path_factory.mktemp("models")
    paths = {}
    for name in MODELS:
        kind, format = name.split("-")
        if kind == "gguf":
            paths[name] = write_gguf(folder / f"{name}.gguf", shape_of(format), format)
        else:
            paths[name] = write_folder(folder / name, shape_of(format), format)
    command = [sys.executable, "-m", "tests.integration.memory_probe", *map(str, paths.values())]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    return dict(zip(paths, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_loaded_weights_take_no_more_than_their_file(name: str, numbers: dict[str, Numbers]) -> None:
    of = numbers[name]
    assert of["in_file"] > WEIGHT_BYTES // 2, "the model is too small to tell"
    assert of["resident"] <= of["in_file"] + SLACK
    assert of["resident"] >= of["in_file"] - SLACK, "the probe does not see the weights"


@pytest.mark.parametrize("name", MODELS)
def test_the_plan_is_what_the_backend_allocates(name: str, numbers: dict[str, Numbers]) -> None:
    of = numbers[name]
    assert of["planned"] == of["allocated"]
    assert of["planned"] <= of["in_file"] * 1.01 + SLACK


@pytest.mark.parametrize("name", MODELS)
def test_loading_peaks_at_one_tensor_more(name: str, numbers: dict[str, Numbers]) -> None:
    of = numbers[name]
    assert of["peak"] <= of["in_file"] + of["largest"] + SLACK


def test_a_full_engine_stays_within_its_plan(numbers: dict[str, Numbers]) -> None:
    of = numbers[MODELS[-1]]
    assert of["served_peak"] <= of["planned_total"] + of["largest"] + SLACK
