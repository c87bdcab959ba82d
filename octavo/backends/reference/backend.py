"""ReferenceBackend: loads tensors as they are in the file and runs a forward eagerly, op by op.

Matrices stay in their file's format and are expanded to float32 for the duration of each product; vectors are kept as
float32. Knows no model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from octavo.backends.ops import F32, I32, Forward, KvLayout, ProgramLimits, RowLogprobs, SampleRows, StepInputs
from octavo.backends.reference import logprobs, measure, sampling
from octavo.backends.reference.kv import ReferenceKv
from octavo.backends.reference.ops import ReferenceOps, ReferenceWeight, StepMeta
from octavo.base.errors import UnsupportedModelError
from octavo.weights.formats import DECODERS
from octavo.weights.loader import HostTensor
from octavo.weights.tensor import TensorInfo

_FLOAT_BYTES = 4


class ReferenceBackend:
    """Implements `octavo.backends.ops.Backend` in NumPy."""

    name = "reference"
    numerics = "reference"

    def weight_bytes(self, info: TensorInfo) -> int:
        return info.nbytes if len(info.shape) > 1 else math.prod(info.shape) * _FLOAT_BYTES

    def reserve(self, infos: Iterable[TensorInfo]) -> None:
        """Nothing to do: weights stay as they are stored."""

    def load(self, tensor: HostTensor) -> ReferenceWeight:
        info = tensor.info
        if info.format not in DECODERS:
            known = ", ".join(sorted(DECODERS))
            raise UnsupportedModelError(
                f"{info.name} has the format {info.format}, which is not supported. Known: {known}."
            )
        if len(info.shape) > 1:
            return ReferenceWeight(info.format, info.shape, np.array(tensor.rows()))
        values = np.ascontiguousarray(tensor.to_float32())
        return ReferenceWeight("F32", info.shape, values.view(np.uint8).reshape(len(values), _FLOAT_BYTES).copy())

    def allocate_kv(self, layout: KvLayout, num_pages: int) -> ReferenceKv:
        return ReferenceKv(layout, num_pages)

    def scratch_bytes(
        self, forward: Forward, weights: Mapping[str, TensorInfo], layout: KvLayout, limits: ProgramLimits
    ) -> int:
        return measure.scratch_bytes(forward, weights, layout, limits)

    def build(
        self, forward: Forward, weights: Mapping[str, ReferenceWeight], kv: ReferenceKv, limits: ProgramLimits
    ) -> ReferenceProgram:
        infos = {name: TensorInfo(name, w.shape, w.format, w.raw.nbytes) for name, w in weights.items()}
        scratch = measure.scratch_bytes(forward, infos, kv.layout, limits)
        return ReferenceProgram(forward, weights, kv, limits, scratch)

    def sample(self, logits: F32, rows: SampleRows) -> I32:
        return sampling.sample(logits, rows)

    def logprobs(self, logits: F32, tokens: I32, num_top: int) -> RowLogprobs:
        return logprobs.logprobs(logits, tokens, num_top)

    def close(self) -> None:
        """Nothing to give back: arrays go with their last user."""


@dataclass(frozen=True)
class ReferenceProgram:
    """A forward with its weights and pages."""

    forward: Forward
    weights: Mapping[str, ReferenceWeight]
    kv: ReferenceKv
    limits: ProgramLimits
    scratch_bytes: int
    _submitted: list[StepMeta] = field(default_factory=list)

    def prepare(self, inputs: StepInputs) -> StepMeta:
        """Raises ValueError for inputs that break the contract or the limits."""
        _check(inputs, self.limits, self.kv.layout)
        return StepMeta(inputs)

    def submit(self, meta: StepMeta) -> None:
        if self._submitted:
            raise RuntimeError("the program has a step that was submitted and not joined")
        self._submitted.append(meta)

    def join(self) -> Mapping[str, F32]:
        if not self._submitted:
            raise RuntimeError("no step was submitted")
        return self.forward(ReferenceOps(self._submitted.pop()), self.weights, self.kv.layers)

    def run(self, meta: StepMeta) -> Mapping[str, F32]:
        self.submit(meta)
        return self.join()


def _check(inputs: StepInputs, limits: ProgramLimits, layout: KvLayout) -> None:
    num_tokens, num_rows, num_samples = (
        len(inputs.token_ids),
        len(inputs.context_lens),
        len(inputs.sample_rows),
    )
    sizes = {
        "tokens": (num_tokens, limits.max_tokens),
        "rows": (num_rows, limits.max_rows),
        "samples": (num_samples, limits.max_samples),
        "context": (int(inputs.context_lens.max(initial=0)), limits.max_context),
    }
    for name, (size, most) in sizes.items():
        if size > most:
            raise ValueError(f"a step of {size} {name} exceeds the program's {most}")
    if len(inputs.positions) != num_tokens or len(inputs.row_starts) != num_rows + 1:
        raise ValueError("positions and row_starts do not fit the step's tokens and rows")
    if inputs.row_starts[0] != 0 or inputs.row_starts[-1] != num_tokens or (np.diff(inputs.row_starts) < 0).any():
        raise ValueError(f"row_starts {inputs.row_starts.tolist()} do not divide {num_tokens} tokens")
    if len(inputs.page_tables) != len(layout.groups) or any(len(t) != num_rows for t in inputs.page_tables):
        raise ValueError(f"the step needs {len(layout.groups)} page tables of {num_rows} rows")
    if num_samples and not (inputs.sample_rows.min() >= 0 and inputs.sample_rows.max() < num_tokens):
        raise ValueError("sample_rows point outside the step")
