"""The encoders that tests make models with: what they store decodes to the nearest the format can say."""

from __future__ import annotations

import numpy as np
import pytest

from octavo.weights.formats import DECODERS
from octavo.weights.geometry import GEOMETRY
from tests.weights.formats.block_encoders import ENCODERS

# Relative errors of normal values: about one step of the format's integers over the square root of twelve.
ERRORS = {"F32": 0.0, "F16": 3e-4, "BF16": 2e-3, "Q8_0": 0.006, "Q4_0": 0.1, "Q4_1": 0.09, "Q5_0": 0.05, "Q5_1": 0.045,
          "Q2_K": 0.36, "Q3_K": 0.18, "Q4_K": 0.09, "Q5_K": 0.045, "Q6_K": 0.022}  # fmt: skip


@pytest.mark.parametrize("format", sorted(ENCODERS))
def test_what_is_stored_is_near(format: str) -> None:
    geometry = GEOMETRY[format]
    values = np.random.default_rng(1).standard_normal((150, geometry.length)).astype(np.float32) * 0.02 + 0.003
    blocks = ENCODERS[format](values)
    assert blocks.dtype == np.uint8 and blocks.shape == (150, geometry.nbytes)
    error = np.sqrt(np.mean((DECODERS[format](blocks) - values) ** 2)) / values.std()
    assert error <= ERRORS[format]
    assert not DECODERS[format](ENCODERS[format](np.zeros((2, geometry.length), np.float32))).any()


def test_every_format_with_kernels_has_an_encoder() -> None:
    kernels = pytest.importorskip("octavo._kernels", reason="CPU BACKEND ABSENT: the extension is not built")
    from octavo.weights.geometry import GGML_TYPES

    assert {g.format for number, g in GGML_TYPES.items() if kernels.has_format(number)} <= set(ENCODERS)
