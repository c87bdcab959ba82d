"""The system fingerprint: engine, weights and numerics, so that equal fingerprints and seeds mean equal answers.

Weights are named by a digest over every tensor's name, shape, format and the first and last bytes of its data:
milliseconds for any size, and different for any two checkpoints one meets in practice.
"""

from __future__ import annotations

import hashlib

from octavo import __version__
from octavo.weights.tensor import WeightSource

_SAMPLE_BYTES = 1024


def weights_digest(source: WeightSource) -> str:
    """Twelve hexadecimal digits that name the weights of `source`."""
    digest = hashlib.sha256()
    for name in sorted(source.tensors):
        info = source.tensors[name]
        digest.update(f"{name}{info.shape}{info.format}".encode())
        raw = source.raw(name)
        digest.update(raw[:_SAMPLE_BYTES].tobytes())
        digest.update(raw[-_SAMPLE_BYTES:].tobytes())
    return digest.hexdigest()[:12]


def fingerprint(weights: str, numerics: str) -> str:
    """`numerics` names what changes bits: backend, instruction set and KV type (never the number of threads)."""
    return f"octavo-{__version__}-{weights}-{numerics}"
