"""Block formats against vectors made by another implementation, and the plain encoders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from octavo.base.errors import UnsupportedModelError
from octavo.weights.formats import DECODERS, ENCODERS, dequantize, quantize
from octavo.weights.geometry import GEOMETRY, GGML_TYPES, row_nbytes, tensor_nbytes
from octavo.weights.safetensors import SafetensorsFiles

K_TYPES = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")
BLOCK_TYPES = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", *K_TYPES)


@pytest.fixture(scope="module")
def vectors(shared_data: Path) -> SafetensorsFiles:
    return SafetensorsFiles.open(shared_data / "quant" / "dequant_vectors.safetensors")


def floats(vectors: SafetensorsFiles, name: str) -> np.ndarray:
    return vectors.raw(name).view(np.float32).reshape(vectors.tensors[name].shape)


def ulps(a: np.ndarray, b: np.ndarray) -> int:
    def ordered(x: np.ndarray) -> np.ndarray:
        bits = x.view(np.int32).astype(np.int64)
        return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)

    return int(np.abs(ordered(a) - ordered(b)).max())


@pytest.mark.parametrize("format", BLOCK_TYPES)
def test_decodes_as_the_reference_vectors(vectors: SafetensorsFiles, format: str) -> None:
    expected = floats(vectors, f"{format}.f32")
    values = dequantize(format, vectors.raw(f"{format}.raw"), expected.shape)
    assert values.dtype == np.float32 and values.shape == expected.shape
    assert np.isfinite(expected).all() and ulps(values, expected) <= 1


@pytest.mark.parametrize("format", ["Q4_0", "Q8_0"])
def test_encodes_as_the_reference_vectors(vectors: SafetensorsFiles, format: str) -> None:
    values = floats(vectors, f"{format}.quant_in")
    np.testing.assert_array_equal(quantize(format, values), vectors.raw(f"{format}.quant_out"))


def test_every_geometry_has_the_vectors_block_size(vectors: SafetensorsFiles) -> None:
    names = [name.removesuffix(".raw") for name in vectors.tensors if name.endswith(".raw")]
    assert len(names) == 23
    for name in names:
        raw, values = vectors.tensors[f"{name}.raw"], vectors.tensors[f"{name}.f32"]
        assert (GEOMETRY[name].nbytes, GEOMETRY[name].length) == (raw.shape[1], values.shape[1])


@pytest.mark.parametrize("format", BLOCK_TYPES)
def test_chunking_does_not_show(vectors: SafetensorsFiles, format: str) -> None:
    expected = floats(vectors, f"{format}.f32")
    raw = np.tile(vectors.raw(f"{format}.raw"), 200)
    shape = (200 * expected.shape[0], expected.shape[1])
    np.testing.assert_array_equal(dequantize(format, raw, shape), np.tile(expected, (200, 1)))


@pytest.mark.parametrize("format", BLOCK_TYPES)
def test_any_bits_decode_without_complaint(format: str) -> None:
    """Scales of damaged files may be infinite or NaN: values, not warnings or errors."""
    raw = np.full(64 * GEOMETRY[format].nbytes, 0xFF, np.uint8)
    assert dequantize(format, raw, (64, GEOMETRY[format].length)).size


def test_plain_formats_round_trip() -> None:
    values = np.array([0, -0.0, 1, -2.5, 1e-40, 3e38, np.inf, -np.inf], np.float32)
    np.testing.assert_array_equal(dequantize("F32", quantize("F32", values), (8,)), values)
    halves = np.array([0, -0.0, 1, -2.5, 6e-8, 65504, np.inf, 1 / 3], np.float16).astype(np.float32)
    np.testing.assert_array_equal(dequantize("F16", quantize("F16", halves), (2, 4)), halves.reshape(2, 4))


def test_bf16_rounds_to_nearest_even_and_keeps_nan() -> None:
    cases = [(0x3F808000, 0x3F80), (0x3F818000, 0x3F82), (0x3F808001, 0x3F81), (0x7F7FFFFF, 0x7F80)]
    bits = np.array([case[0] for case in cases], np.uint32)
    stored = quantize("BF16", bits.view(np.float32))
    assert stored.view(np.uint16).tolist() == [case[1] for case in cases]
    nan = np.array([0x7FFFFFFF, 0xFF800001], np.uint32).view(np.float32)
    assert np.isnan(dequantize("BF16", quantize("BF16", nan), (2,))).all()


@pytest.mark.parametrize(("format", "steps"), [("Q8_0", 127), ("Q4_0", 8), ("BF16", 256), ("F16", 2048)])
def test_encoding_error_is_bounded_by_the_step(format: str, steps: int) -> None:
    values = (0.1 + 2 * np.cos(np.arange(4096))).astype(np.float32).reshape(16, 256)
    back = dequantize(format, quantize(format, values), values.shape)
    assert np.abs(back - values).max() < 1.02 * np.abs(values).max() / steps


def test_zeros_stay_zeros() -> None:
    for format in ENCODERS:
        raw = quantize(format, np.zeros((3, 64), np.float32))
        assert raw.size == tensor_nbytes(format, (3, 64))
        assert not dequantize(format, raw, (3, 64)).any()


def test_unknown_formats_are_refused_by_name() -> None:
    for format in sorted(set(GEOMETRY) - set(DECODERS)):
        with pytest.raises(UnsupportedModelError, match=format):
            dequantize(format, np.zeros(0, np.uint8), (0,))
    with pytest.raises(UnsupportedModelError, match="Q6_K"):
        quantize("Q6_K", np.zeros((1, 256), np.float32))
    with pytest.raises(UnsupportedModelError, match="NF4"):
        dequantize("NF4", np.zeros(0, np.uint8), (0,))


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="takes 34 bytes, got 33"):
        dequantize("Q8_0", np.zeros(33, np.uint8), (32,))
    with pytest.raises(ValueError, match="not a multiple of the Q4_K block of 256"):
        row_nbytes("Q4_K", 128)
    with pytest.raises(ValueError, match="not a multiple"):
        quantize("Q8_0", np.zeros((4, 8), np.float32))


def test_ggml_ids_are_unique_per_name() -> None:
    assert len({geometry.format for geometry in GGML_TYPES.values()}) == len(GGML_TYPES)
