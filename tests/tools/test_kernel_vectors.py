"""The file of kernel vectors: the same at each call, every op and format in it, activations that lose nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from octavo.backends.reference.kv import from_bf16, to_bf16
from tools.kernel_vectors import FLOATS, SCALE_PLACES, cases, encode, main


def test_the_file_is_reproducible_and_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "vectors.bin"
    assert main([str(path)]) == 0
    of = list(cases())
    assert path.read_bytes() == encode(of)
    assert {case.op for case in of} == {"linear", "rms_norm", "layer_norm", "rope", "gated", "attention", "sample"}
    linear = [case for case in of if case.op == "linear"]
    assert {case.facts["format"] for case in linear} == {*FLOATS, *SCALE_PLACES}
    for case in of:
        assert all(np.isfinite(array).all() for array in case.arrays.values() if array.dtype == np.float32)


def test_activations_of_products_lose_nothing_when_narrowed() -> None:
    for case in cases():
        if case.op != "linear" or case.facts["format"] in FLOATS:
            continue
        x = case.arrays["x"].astype(np.float32)
        np.testing.assert_array_equal(from_bf16(to_bf16(x)), x)
        blocks = x.reshape(-1, 32)
        quants = blocks / (np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127))
        np.testing.assert_array_equal(quants, np.rint(quants))
