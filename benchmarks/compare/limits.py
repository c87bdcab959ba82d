"""The least time a workload can take on a machine: for each operation the larger of reading its bytes and doing its
multiplications, added up. Pure arithmetic; leaves out norms, rope, softmax and sampling, so that 1.0 is out of reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from octavo.weights.geometry import tensor_nbytes
from tools.make_model.shapes import Shape


@dataclass(frozen=True)
class Machine:
    """Measured rates of all threads together: bytes a second, and operations a second (2 a multiply-add)."""

    bandwidth: float
    int8: float
    bf16: float


@dataclass(frozen=True)
class Matrix:
    """A weight matrix: outputs x inputs, its bytes in the file, and which products it is made for."""

    rows: int
    columns: int
    nbytes: float
    is_int8: bool
    is_head: bool = False


@dataclass(frozen=True)
class Workload:
    """What the formulas see: prompts of `input_len` tokens, `output_len` tokens of each of `users` answers."""

    kind: str
    users: int
    input_len: int
    output_len: int


def matrices_of(shape: Shape, formats: dict[str, str], default: str) -> list[Matrix]:
    """The matrices a token passes. `formats` gives the storage of single tensors by Hugging Face name, `default` that
    of the others: a GGUF format, or INT8 / INT4 for one scale a channel or group (1 and 17/32 bytes a weight)."""
    found = []
    for name, dims in shape.tensors():
        if len(dims) != 2 or (name == "model.embed_tokens.weight" and not shape.tied):
            continue
        format = formats.get(name, default)
        per_weight = {"INT8": 1.0, "INT4": 17 / 32}.get(format)
        nbytes = dims[0] * dims[1] * per_weight if per_weight else float(tensor_nbytes(format, dims))
        is_head = name in ("model.embed_tokens.weight", "lm_head.weight")
        found.append(Matrix(dims[0], dims[1], nbytes, format not in ("BF16", "F16", "F32"), is_head))
    return found


def decode_step_s(shape: Shape, matrices: Sequence[Matrix], users: int, context: float, kv_bytes: float,
                  machine: Machine) -> float:  # fmt: skip
    """Seconds of one step: a token for each of `users` with `context` cached tokens, `kv_bytes` a cached value."""
    seconds = sum(_matrix_s(matrix, users, machine) for matrix in matrices)
    values = 2 * shape.layers * shape.kv_heads * shape.head_dim  # keys and values of one token
    operations = 4 * shape.layers * shape.heads * shape.head_dim * context * users
    return seconds + max(values * kv_bytes * context * users / machine.bandwidth, operations / _rate(matrices, machine))


def prompt_s(shape: Shape, matrices: Sequence[Matrix], tokens: int, machine: Machine) -> float:
    """Seconds of a prompt: every matrix for all tokens, the head for the last, causal attention."""
    seconds = sum(_matrix_s(matrix, 1 if matrix.is_head else tokens, machine) for matrix in matrices)
    operations = 4 * shape.layers * shape.heads * shape.head_dim * tokens * (tokens + 1) / 2
    return seconds + operations / _rate(matrices, machine)


def limit(shape: Shape, matrices: Sequence[Matrix], work: Workload, machine: Machine, kv_bytes: float = 2) -> float:
    """Tokens a second at most: of the prompt, of the answers' later tokens, or (generate) of all output tokens."""
    if work.kind == "prompt":
        return work.input_len / prompt_s(shape, matrices, work.input_len, machine)
    context = work.input_len + work.output_len / 2
    step_s = decode_step_s(shape, matrices, work.users, context, kv_bytes, machine)
    if work.kind == "decode":
        return work.users / step_s
    prompts_s = work.users * prompt_s(shape, matrices, work.input_len, machine)
    return work.users * work.output_len / (prompts_s + (work.output_len - 1) * step_s)


def _matrix_s(matrix: Matrix, rows: int, machine: Machine) -> float:
    rate = machine.int8 if matrix.is_int8 else machine.bf16
    return max(matrix.nbytes / machine.bandwidth, 2.0 * matrix.rows * matrix.columns * rows / rate)


def _rate(matrices: Sequence[Matrix], machine: Machine) -> float:
    """The peak attention is held against: that of the layers' matrices."""
    inner = [matrix for matrix in matrices if not matrix.is_head]
    return machine.int8 if sum(matrix.is_int8 for matrix in inner) * 2 > len(inner) else machine.bf16
