"""Safetensors checkpoints: single, sharded, and all the ways in which they can be damaged."""

from __future__ import annotations

import json
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octavo.base.errors import ModelFormatError, ModelNotFoundError
from octavo.weights.safetensors import SafetensorsFiles
from tests.weights.safetensors_writer import (
    Stored,
    file_bytes,
    safetensors_bytes,
    write_safetensors,
    write_sharded,
)

TENSORS: dict[str, Stored] = {
    "model.embed_tokens.weight": ("F32", (3, 2), np.arange(6, dtype=np.float32).tobytes()),
    "a": ("BF16", (2, 2), bytes(range(8))),
    "empty": ("F16", (0, 4), b""),
    "b": ("F16", (4,), bytes(range(8))),
    "scalar": ("I64", (), bytes(8)),
    "packed": ("F4", (2, 2), bytes(2)),
}


def contents(files: SafetensorsFiles) -> dict[str, Stored]:
    return {name: (info.format, info.shape, files.raw(name).tobytes()) for name, info in files.tensors.items()}


def test_single_file(tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "model.safetensors", TENSORS)
    for target in (path, tmp_path):
        with SafetensorsFiles.open(target) as files:
            assert contents(files) == TENSORS
            assert files.metadata == {"format": "pt"}
            view = files.raw("a")
            assert not view.flags.writeable and not view.flags.owndata
            for name in files.tensors:
                files.release(name)
            assert contents(files) == TENSORS
        assert view.tobytes() == bytes(range(8))


def test_shards(tmp_path: Path) -> None:
    paths = write_sharded(tmp_path, TENSORS, 3)
    with SafetensorsFiles.open(tmp_path) as files:
        assert contents(files) == TENSORS
        assert files.paths == paths


def test_missing_shards_are_named(tmp_path: Path) -> None:
    write_sharded(tmp_path, TENSORS, 3)[1].unlink()
    with pytest.raises(ModelFormatError, match=r"1 of 3 shards missing: model-00002-of-00003"):
        SafetensorsFiles.open(tmp_path)


def test_missing_tensors_are_named(tmp_path: Path) -> None:
    paths = write_sharded(tmp_path, TENSORS, 3)
    write_safetensors(paths[0], {"a": TENSORS["a"]})
    with pytest.raises(ModelFormatError, match=r"embed_tokens.*missing: model-00001-of-00003"):
        SafetensorsFiles.open(tmp_path)


def test_tensor_in_two_shards(tmp_path: Path) -> None:
    paths = write_sharded(tmp_path, TENSORS, 3)
    paths[2].write_bytes(paths[1].read_bytes())
    with pytest.raises(ModelFormatError, match="in two shards"):
        SafetensorsFiles.open(tmp_path)


@pytest.mark.parametrize("shard", ["../model.safetensors", "/etc/passwd", "x.bin", "", 3])
def test_index_cannot_leave_the_folder(tmp_path: Path, shard: Any) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(ModelFormatError, match="no shard's name"):
        SafetensorsFiles.open(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": {}}', '{"weight_map": 3}', "{", "[" * 100000])
def test_bad_index(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ModelFormatError, match="index"):
        SafetensorsFiles.open(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "x.ckpt"])
def test_pickles_are_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04")
    for target in (tmp_path, tmp_path / name):
        with pytest.raises(ModelFormatError, match=r"never opened.*safetensors or GGUF") as caught:
            SafetensorsFiles.open(target)
        assert caught.value.path == tmp_path / name


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="holds no weights"):
        SafetensorsFiles.open(tmp_path)
    write_safetensors(tmp_path / "adapter.safetensors", TENSORS)
    with pytest.raises(ModelFormatError, match=r"holds adapter\.safetensors"):
        SafetensorsFiles.open(tmp_path)


def info(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"t": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


BAD = {
    "short": (b"1234567", "cut off"),
    "no header": (struct.pack("<Q", 50) + b"{}", "cut off inside its header"),
    "huge header": (struct.pack("<Q", 1 << 63), "not a safetensors file"),
    "not JSON": (file_bytes(b"nonsense"), "not valid JSON"),
    "not UTF-8": (file_bytes(b'{"\xff\xff": 1}'), "not valid JSON"),
    "deep": (file_bytes(b"[" * 100000), "not valid JSON"),
    "list": (file_bytes([]), "not a JSON object"),
    "entry": (file_bytes({"t": 3}), "no description"),
    "metadata": (file_bytes({"__metadata__": {"a": 1}}), "not a map of strings"),
    "twice": (file_bytes(b'{"t": 1, "t": 2}'), "'t' occurs twice"),
    "dtype": (file_bytes(info(dtype="Q9")), "unknown dtype 'Q9'"),
    "dtype list": (file_bytes(info(dtype=["F32"])), "unknown dtype"),
    "shape": (file_bytes(info(shape=[-2])), "has the shape"),
    "shape bool": (file_bytes(info(shape=[True])), "has the shape"),
    "shape overflow": (file_bytes(info(shape=[1 << 40, 1 << 40, 0], offsets=(0, 0))), "has the shape"),
    "offsets": (file_bytes(info(offsets=[8, 0])), "data_offsets"),
    "one offset": (file_bytes(info(offsets=[8])), "data_offsets"),
    "size": (file_bytes(info(shape=[3]), bytes(8)), "F32 [3] does not take 8 bytes"),
    "truncated": (file_bytes(info(), bytes(7)), "1 bytes of data missing"),
    "trailing": (file_bytes(info(), bytes(9)), "belong to no tensor"),
    "hole": (file_bytes(info(offsets=[8, 16]), bytes(16)), "starts at 8 instead of 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_damaged_files(tmp_path: Path, case: str) -> None:
    data, words = BAD[case]
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(ModelFormatError) as caught:
        SafetensorsFiles.open(tmp_path)
    assert caught.value.path == path and words in caught.value.reason


@pytest.mark.parametrize("seed", range(10))
def test_truncation_and_mutation_raise_nothing_else(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    good = safetensors_bytes(TENSORS)
    path = tmp_path / "model.safetensors"
    outcomes = set()
    for _ in range(100):
        data = bytearray(good)
        for _ in range(rng.randrange(1, 3)):
            new = rng.choice((rng.randbytes(1), str(rng.randrange(10)).encode(), b"9" * 8, b"}", bytes(8)))
            position = rng.randrange(len(good))
            data[position : position + len(new)] = new
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        path.write_bytes(data)
        try:
            with SafetensorsFiles.open(path) as files:
                assert all(files.raw(name).size == info.nbytes for name, info in files.tensors.items())
            outcomes.add("read")
        except ModelFormatError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}
