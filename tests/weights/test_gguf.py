"""The GGUF container: what well-formed files give, and that malformed ones are refused with a reason."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octavo.base.errors import ModelFormatError, ModelNotFoundError
from octavo.weights.geometry import tensor_nbytes
from octavo.weights.gguf import GGUFFile
from tests.weights.gguf_writer import gguf_bytes, string_bytes, write_gguf, write_split_gguf

METADATA: dict[str, Any] = {
    "general.architecture": "llama",
    "llama.block_count": 2,
    "negative": -7,
    "large": 1 << 40,
    "real": 0.5,
    "yes": True,
    "u8": np.uint8(255),
    "i8": np.int8(-1),
    "u16": np.uint16(65535),
    "i16": np.int16(-2),
    "i64": np.int64(-(1 << 40)),
    "f64": np.float64(1e300),
    "odd": b"\xff\xfeabc",
    "tokens": ["<s>", "é", "", b"\xc3"],
    "scores": [0.5, -1.5],
    "types": [1, 2, 3],
    "flags": np.array([True, False]),
    "nothing": np.array([], dtype=np.uint32),
}


def f32(*shape: int) -> tuple[str, tuple[int, ...], bytes]:
    return "F32", shape, np.arange(np.prod(shape), dtype=np.float32).tobytes()


TENSORS = {
    "token_embd.weight": f32(5, 3),
    "blk.0.attn_q.weight": ("Q8_0", (2, 64), bytes(range(136))),
    "output_norm.weight": f32(3),
}


def write(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    return path


def refused(tmp_path: Path, data: bytes, *words: str) -> None:
    path = write(tmp_path, data)
    with pytest.raises(ModelFormatError) as caught:
        GGUFFile.open(path)
    assert caught.value.path == path
    for word in words:
        assert word in caught.value.reason


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("alignment", [8, 32, 4096])
def test_reads_back_what_was_written(tmp_path: Path, version: int, alignment: int) -> None:
    path = write(tmp_path, gguf_bytes(METADATA, TENSORS, version=version, alignment=alignment))
    with GGUFFile.open(path) as file:
        assert file.metadata["general.architecture"] == "llama"
        for key in (
            "llama.block_count",
            "negative",
            "large",
            "real",
            "yes",
            "u8",
            "i8",
            "u16",
            "i16",
            "i64",
            "f64",
        ):
            assert file.metadata[key] == METADATA[key]
            assert isinstance(file.metadata[key], int | float)
        assert file.metadata["yes"] is True
        assert file.metadata["odd"] == b"\xff\xfeabc".decode("utf-8", "surrogateescape")
        assert file.metadata["tokens"] == ["<s>", "é", "", "\udcc3"]
        assert file.metadata["tokens"] is file.metadata["tokens"]
        np.testing.assert_array_equal(file.metadata["scores"], np.array([0.5, -1.5], np.float32))
        assert file.metadata["types"].tolist() == [1, 2, 3]
        assert file.metadata["flags"].tolist() == [True, False]
        assert file.metadata["nothing"].size == 0
        assert "absent" not in file.metadata
        assert list(file.tensors) == list(TENSORS)
        for name, (format, shape, raw) in TENSORS.items():
            info = file.tensors[name]
            assert (info.format, info.shape, info.nbytes) == (format, shape, len(raw))
            view = file.raw(name)
            assert view.dtype == np.uint8 and view.ndim == 1
            assert not view.flags.writeable and not view.flags.owndata
            assert view.tobytes() == raw
            file.release(name)
            assert file.raw(name).tobytes() == raw


def test_views_outlive_close(tmp_path: Path) -> None:
    file = GGUFFile.open(write(tmp_path, gguf_bytes({}, TENSORS)))
    view = file.raw("token_embd.weight")
    file.close()
    assert view.view(np.float32)[14] == 14.0
    with pytest.raises(ValueError, match="closed"):
        file.raw("token_embd.weight")


def test_split_files_read_as_one(tmp_path: Path) -> None:
    paths = write_split_gguf(tmp_path, "m", METADATA, TENSORS, 3)
    for path in paths:
        with GGUFFile.open(path) as file:
            assert file.paths == paths
            assert file.metadata["llama.block_count"] == 2
            read = {name: file.raw(name).tobytes() for name in file.tensors}
            assert read == {name: raw for name, (_, _, raw) in TENSORS.items()}


def test_missing_parts_are_named(tmp_path: Path) -> None:
    paths = write_split_gguf(tmp_path, "m", METADATA, TENSORS, 3)
    paths[1].unlink()
    with pytest.raises(ModelFormatError, match=r"1 of 3 parts missing.*m-00002-of-00003\.gguf"):
        GGUFFile.open(paths[0])


def test_parts_of_another_split_are_refused(tmp_path: Path) -> None:
    paths = write_split_gguf(tmp_path, "m", METADATA, TENSORS, 3)
    paths[1].write_bytes(paths[2].read_bytes())
    with pytest.raises(ModelFormatError, match=r"expected split\.no 1"):
        GGUFFile.open(paths[0])
    renamed = paths[0].rename(tmp_path / "m.gguf")
    with pytest.raises(ModelFormatError, match="00001-of-00003"):
        GGUFFile.open(renamed)


def test_tensors_twice_over_parts_or_missing_are_refused(tmp_path: Path) -> None:
    count = {"split.count": np.uint16(2)}
    for number, total in ((0, 2), (1, 2)):
        path = tmp_path / f"m-{number + 1:05d}-of-00002.gguf"
        write_gguf(path, {**count, "split.no": np.uint16(number), "split.tensors.count": total}, {"x": f32(2)})
    with pytest.raises(ModelFormatError, match="'x' occurs twice"):
        GGUFFile.open(path)
    write_gguf(path, {**count, "split.no": np.uint16(1)}, {})
    with pytest.raises(ModelFormatError, match="hold 1 tensors instead of 2"):
        GGUFFile.open(path)


def test_files_that_are_not_gguf(tmp_path: Path) -> None:
    refused(tmp_path, b"", "empty")
    refused(tmp_path, b"GGU", "not a GGUF file")
    refused(tmp_path, b"PK\x03\x04" + bytes(100), "not a GGUF file")
    refused(tmp_path, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull")
    with pytest.raises(ModelNotFoundError, match=r"nowhere\.gguf"):
        GGUFFile.open(tmp_path / "nowhere.gguf")
    with pytest.raises(ModelFormatError, match="folder"):
        GGUFFile.open(tmp_path)


def test_versions(tmp_path: Path) -> None:
    good = gguf_bytes(METADATA, TENSORS)
    for version, words in ((0, "version 0"), (1, "convert"), (4, "newer"), (3 << 24, "byte-swapped")):
        refused(tmp_path, good[:4] + struct.pack("<I", version) + good[8:], words)


def test_impossible_counts(tmp_path: Path) -> None:
    for tensors, pairs in ((-1, 0), (0, -1), ((1 << 30) + 1, 0), (0, 1 << 62)):
        refused(tmp_path, b"GGUF" + struct.pack("<Iqq", 3, tensors, pairs), "no real file has")
    refused(tmp_path, b"GGUF" + struct.pack("<Iqq", 3, 1 << 30, 0), "file ends inside")


def pair(key: bytes, rest: bytes) -> bytes:
    return b"GGUF" + struct.pack("<Iqq", 3, 0, 1) + string_bytes(key) + rest


def test_malformed_metadata(tmp_path: Path) -> None:
    refused(tmp_path, pair(b"", struct.pack("<II", 4, 1)), "metadata key 0 is empty")
    refused(tmp_path, pair(b"\xff", struct.pack("<II", 4, 1)), "not valid UTF-8")
    refused(tmp_path, pair(b"k", struct.pack("<II", 13, 1)), "unknown type 13")
    refused(tmp_path, pair(b"k", struct.pack("<IQ", 8, 1 << 63)), "file ends inside")
    refused(tmp_path, pair(b"k", struct.pack("<IIQ", 9, 9, 1)), "array of arrays")
    refused(tmp_path, pair(b"k", struct.pack("<IIQ", 9, 77, 1)), "unknown type 77")
    refused(tmp_path, pair(b"k", struct.pack("<IIQ", 9, 4, (1 << 64) - 1)), "file ends inside")
    refused(tmp_path, pair(b"k", struct.pack("<IIQ", 9, 8, (1 << 64) - 1)), "claims")
    refused(tmp_path, pair(b"k", struct.pack("<IIQQ", 9, 8, 1, (1 << 64) - 1)), "file ends inside")
    refused(tmp_path, pair(b"k", struct.pack("<IIQQQ", 9, 8, 2, 1 << 60, 0)), "file ends inside")
    twice = string_bytes(b"k") + struct.pack("<II", 4, 1)
    refused(tmp_path, b"GGUF" + struct.pack("<Iqq", 3, 0, 2) + twice * 2, "'k' occurs twice")


@pytest.mark.parametrize("value", [0, 3, 48, 1 << 21, -32, "32", True, 32.0, [32]])
def test_bad_alignment(tmp_path: Path, value: Any) -> None:
    refused(tmp_path, gguf_bytes({"general.alignment": value}, TENSORS), "general.alignment")


def tensor(name: bytes, dims: tuple[int, ...], type_id: int, offset: int = 0) -> bytes:
    info = string_bytes(name) + struct.pack(f"<I{len(dims)}qIQ", len(dims), *dims, type_id, offset)
    return b"GGUF" + struct.pack("<Iqq", 3, 1, 0) + info + bytes(256)


def test_malformed_tensors(tmp_path: Path) -> None:
    refused(tmp_path, tensor(b"", (1,), 0), "is empty")
    refused(tmp_path, tensor(b"n" * 64, (1,), 0), "longer than 63")
    refused(tmp_path, tensor(b"t", (1,) * 5, 0), "5 dimensions")
    refused(tmp_path, tensor(b"t", (-1,), 0), "impossible dimensions")
    refused(tmp_path, tensor(b"t", (1 << 31, 1 << 31, 1 << 31), 0), "impossible dimensions")
    refused(tmp_path, tensor(b"t", (1 << 62, 0), 0), "impossible dimensions")
    refused(tmp_path, tensor(b"t", (1 << 40,), 0), "cut off")
    refused(tmp_path, tensor(b"t", (48,), 8), "not a multiple of the Q8_0 block of 32")
    refused(tmp_path, tensor(b"t", (32,), 31), "retired type Q4_0_4_4")
    refused(tmp_path, tensor(b"t", (32,), 99), "unknown type 99")
    refused(tmp_path, tensor(b"t", (4,), 0, offset=32), "has offset 32")
    refused(tmp_path, tensor(b"t", (4,), 0, offset=(1 << 64) - 32), "has offset")
    refused(tmp_path, gguf_bytes({}, TENSORS, offsets=[0, 0, 64]), "has offset 0")
    two = gguf_bytes({}, {"aa": f32(2), "ab": f32(2)})
    refused(tmp_path, two.replace(string_bytes("ab"), string_bytes("aa")), "'aa' occurs twice")


def test_scalars_and_empty_tensors(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", {}, {"one": ("F32", (), bytes(4)), "none": ("Q8_0", (0, 32), b"")})
    with GGUFFile.open(path) as file:
        assert (file.tensors["one"].shape, file.tensors["one"].nbytes) == ((), 4)
        assert file.raw("none").size == 0
        file.release("none")


@pytest.mark.parametrize("seed", range(20))
def test_truncation_and_mutation_raise_nothing_else(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    good = gguf_bytes(METADATA, TENSORS)
    head = good.index(b"output_norm.weight") + 40
    path = tmp_path / "model.gguf"
    outcomes = set()
    for _ in range(100):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 4)):
            position = rng.randrange(head)
            power = struct.pack("<Q", 1 << rng.randrange(64))
            new = rng.choice((rng.randbytes(1), rng.randbytes(1), b"\xff" * 8, bytes(8), power))
            data[position : position + len(new)] = new
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        path.write_bytes(data)
        try:
            with GGUFFile.open(path) as file:
                for info in file.tensors.values():
                    assert file.raw(info.name).size == info.nbytes == tensor_nbytes(info.format, info.shape)
                _ = dict(file.metadata)
            outcomes.add("read")
        except ModelFormatError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
