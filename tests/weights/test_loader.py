"""HostTensor: moving rows of blocks about must equal moving rows of decoded values."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from octavo.base.errors import ModelFormatError
from octavo.weights.formats import ENCODERS, quantize
from octavo.weights.geometry import GEOMETRY
from octavo.weights.hub import ModelFiles
from octavo.weights.loader import HostTensor, open_source, stream
from octavo.weights.tensor import WeightSource
from tests.weights.gguf_writer import write_gguf
from tests.weights.safetensors_writer import write_safetensors

rng = np.random.default_rng(7)


def tensor(format: str, rows: int, columns: int = 64, name: str = "w") -> HostTensor:
    return HostTensor.from_float32(name, rng.standard_normal((rows, columns), np.float32), format)


def equal(tensor: HostTensor, values: np.ndarray) -> None:
    assert tensor.info.shape == values.shape
    assert tensor.info.nbytes == tensor.rows().size == tensor.num_rows * tensor.row_nbytes
    np.testing.assert_array_equal(tensor.to_float32(), values)


@pytest.mark.parametrize("format", ENCODERS)
def test_row_operations_equal_those_on_values(format: str) -> None:
    a, b = tensor(format, 10), tensor(format, 6)
    va, vb = a.to_float32(), b.to_float32()
    order = rng.permutation(10)
    permuted = a.rows_permuted(order)
    equal(permuted, va[order])
    equal(permuted.rows_permuted(order), va[order][order])
    equal(permuted.rows_permuted(np.argsort(order)), va)
    equal(permuted.row_slice(3, 7), va[order][3:7])
    equal(a.row_slice(3, 7), va[3:7])
    for x, y, expected in ((a, b, [va, vb]), (permuted, b, [va[order], vb]), (b, permuted, [vb, va[order]])):
        joined = HostTensor.joined("qk", [x, y])
        whole = np.concatenate(expected)
        assert joined.info.name == "qk"
        equal(joined, whole)
        equal(joined.row_slice(4, 12), whole[4:12])
        equal(joined.row_slice(12, 14), whole[12:14])
        shuffle = rng.permutation(16)
        equal(joined.rows_permuted(shuffle).row_slice(2, 13), whole[shuffle][2:13])
        equal(HostTensor.joined("all", [joined, a]), np.concatenate([whole, va]))
        np.testing.assert_array_equal(joined.rows(5, 9), joined.rows()[5:9])


@pytest.mark.parametrize("format", ENCODERS)
def test_column_slices_at_block_borders(format: str) -> None:
    a = tensor(format, 4, 128)
    equal(a.column_slice(32, 96), a.to_float32()[:, 32:96])
    equal(a.rows_permuted([3, 1, 0, 2]).column_slice(64, 128), a.to_float32()[[3, 1, 0, 2], 64:])
    if GEOMETRY[format].length > 1:
        with pytest.raises(ValueError, match="blocks of 32"):
            a.column_slice(16, 64)


def test_vectors_and_stacks() -> None:
    values = rng.standard_normal(8, np.float32)
    bias = HostTensor.from_float32("b", values)
    equal(bias.rows_permuted([1, 0, 2, 3, 4, 5, 7, 6]), values[[1, 0, 2, 3, 4, 5, 7, 6]])
    equal(HostTensor.joined("b2", [bias, bias.row_slice(0, 2)]), np.concatenate([values, values[:2]]))
    stack = rng.standard_normal((3, 4, 64), np.float32)
    experts = HostTensor.from_float32("experts", stack)
    equal(experts, stack)
    one = experts.selected(1, "expert.1")
    assert one.info.name == "expert.1"
    equal(one, stack[1])
    equal(one.row_slice(1, 3), stack[1, 1:3])
    equal(HostTensor.from_float32("s", np.float32(3.5).reshape(())), np.float32(3.5).reshape(()))
    equal(HostTensor.from_float32("none", np.zeros((0, 64), np.float32), "Q8_0"), np.zeros((0, 64), np.float32))


def test_large_tensors_decode_in_chunks() -> None:
    a = tensor("Q8_0", 4000, 512)
    order = rng.permutation(4000)
    equal(a.rows_permuted(order), a.to_float32()[order])


def test_mistakes_are_refused() -> None:
    a = tensor("Q8_0", 4)
    for order in ([0, 1, 2], [0, 1, 2, 2], [0, 1, 2, 4]):
        with pytest.raises(ValueError, match="no permutation"):
            a.rows_permuted(order)
    with pytest.raises(ValueError, match="rows 2 to 5 of 4"):
        a.row_slice(2, 5)
    with pytest.raises(ValueError, match="cannot be joined"):
        HostTensor.joined("x", [a, tensor("Q4_0", 4)])
    with pytest.raises(ValueError, match="cannot be joined"):
        HostTensor.joined("x", [a, tensor("Q8_0", 4, 32)])
    with pytest.raises(ValueError, match="no separate rows"):
        HostTensor.from_float32("v", np.zeros(64, np.float32), "Q8_0").row_slice(0, 1)
    with pytest.raises(ValueError, match="no matrix"):
        HostTensor.from_float32("v", np.zeros(64, np.float32)).column_slice(0, 1)


def sources(tmp_path: Path) -> list[WeightSource]:
    values = {name: rng.standard_normal((4, 64), np.float32) for name in ("a", "b")}
    stored = {name: ("BF16", (4, 64), quantize("BF16", v).tobytes()) for name, v in values.items()}
    write_gguf(tmp_path / "m.gguf", {}, stored)
    write_safetensors(tmp_path / "model.safetensors", stored)
    gguf = open_source(ModelFiles("m", "gguf", tmp_path / "m.gguf"))
    return [gguf, open_source(ModelFiles("m", "hf", tmp_path))]


def test_both_kinds_of_file_give_the_same_tensors(tmp_path: Path) -> None:
    gguf, hf = sources(tmp_path)
    assert gguf.tensors == hf.tensors
    for name in gguf.tensors:
        np.testing.assert_array_equal(HostTensor.of(gguf, name).rows(), HostTensor.of(hf, name).rows())


def test_tensors_are_views_of_the_file(tmp_path: Path) -> None:
    for source in sources(tmp_path):
        a, b = HostTensor.of(source, "a"), HostTensor.of(source, "b")
        assert np.shares_memory(a.rows(), source.raw("a"))
        assert np.shares_memory(a.row_slice(1, 3).rows(), source.raw("a"))
        assert np.shares_memory(HostTensor.joined("ab", [a, b]).parts[1], source.raw("b"))


def test_streaming_releases_each_tensor_after_use(tmp_path: Path) -> None:
    class Recorder:
        def __init__(self, source: WeightSource) -> None:
            self.source, self.released = source, list[str]()
            self.tensors, self.paths, self.raw, self.close = source.tensors, source.paths, source.raw, source.close

        def release(self, name: str) -> None:
            self.released.append(name)

    for source in map(Recorder, sources(tmp_path)):
        for number, tensor in enumerate(stream(source, ["b", "a"])):
            assert source.released == ["b", "a"][:number]
            HostTensor.joined("ab", [tensor]).to_float32()
        assert source.released == ["b", "a"]


def test_missing_tensors_are_named(tmp_path: Path) -> None:
    for source in sources(tmp_path):
        with pytest.raises(ModelFormatError, match=r"m(odel)?\.(gguf|safetensors): tensor 'c' is missing"):
            list(stream(source, ["a", "c"]))


def resident_file_bytes() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssFile:")[2].split()[0]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's accounting of resident pages")
def test_release_gives_back_resident_pages(tmp_path: Path) -> None:
    size = 32 << 20
    stored = {name: ("F32", (size // 1024, 256), bytes(size)) for name in ("a", "b")}
    write_gguf(tmp_path / "m.gguf", {}, stored)
    source = open_source(ModelFiles("m", "gguf", tmp_path / "m.gguf"))
    before = resident_file_bytes()
    for tensor in stream(source, ["a", "b"]):
        assert not tensor.to_float32().any()
        assert size * 0.9 < resident_file_bytes() - before < size * 1.3
    assert resident_file_bytes() - before < size * 0.1


def test_blocks_written_by_another_writer(shared_data: Path) -> None:
    folder = shared_data / "arch_fixtures" / "gguf"
    expected = json.loads((folder / "tiny_kquant_ref.json").read_text())
    values = {"ref.f32.weight": expected["ref_f32"]}
    values |= {f"kq.{format}.weight": numbers for format, numbers in expected["dequant"].items()}
    source = open_source(ModelFiles("tiny", "gguf", folder / "tiny_kquant.gguf"))
    assert set(values) == set(source.tensors)
    for name, numbers in values.items():
        decoded = HostTensor.of(source, name).to_float32()
        np.testing.assert_array_equal(decoded.ravel(), np.array(numbers, np.float32))
