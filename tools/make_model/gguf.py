"""Writes a model as one GGUF file, tensor by tensor: the header is known before the first value is drawn.

Knows GGUF's keys and names for llama, and which format a matrix gets in a file of mixed formats. Source: the GGUF
specification.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from octavo.weights.geometry import GEOMETRY, GGML_TYPES, tensor_nbytes
from tools.make_model.shapes import RopeScaling, Shape
from tools.make_model.values import FORMATS, random_tensor
from tools.make_model.vocabulary import BOS, CHAT_TEMPLATE, EOS, PRE_TOKENIZER, SPECIALS, make_vocabulary

ALIGNMENT = 32
FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10, "Q3_K": 12,
              "Q4_K": 14, "Q4_K_M": 15, "Q5_K": 16, "Q6_K": 18, "BF16": 32}  # fmt: skip
CHOICES = tuple(sorted({*FORMATS, "Q4_K_M"}))
# What llama.cpp's converter takes for rows that are no whole blocks of 256 (Q4_0 stands for its IQ4_NL).
_FALLBACKS = {"Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
_TYPE_IDS = {geometry.format: number for number, geometry in GGML_TYPES.items()}
_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(path: Path, shape: Shape, format: str, *, seed: int = 0) -> Path:
    """Writes `path`; a file in the making has another name, so that an interrupted run leaves none that looks whole."""
    tensors = [
        (gguf_name(name), tensor_format(shape, name, dims, format), dims) for name, dims in shape.tensors()
    ]  # fmt: skip
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        _write_header(file, shape, format, tensors)
        if shape.rope_scaling is not None:
            _write_padded(file, rope_divisors(shape, shape.rope_scaling).tobytes())
        for name, stored, dims in tensors:
            for piece in random_tensor(stored, dims, seed=seed, name=name):
                file.write(piece.data)
            _pad(file)
    part.rename(path)
    return path


def gguf_name(name: str) -> str:
    """GGUF's name of a Hugging Face tensor."""
    module = name.removesuffix(".weight")
    match = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", module)
    return f"{_NAMES[module]}.weight" if match is None else f"blk.{match[1]}.{_NAMES[match[2]]}.weight"


def tensor_format(shape: Shape, name: str, dims: tuple[int, ...], format: str) -> str:
    """The format of one tensor in a file of `format`: vectors are F32, and a format of 256 falls back where it must."""
    if len(dims) == 1:
        return "F32"
    if format == "Q4_K_M":
        format = "Q6_K" if _has_more_bits(shape, name) else "Q4_K"
    return _FALLBACKS[format] if dims[-1] % GEOMETRY[format].length else format


def _has_more_bits(shape: Shape, name: str) -> bool:
    """The Q6_K tensors of a Q4_K_M file: the head, and values and down projections in about half of the layers."""
    if name == "lm_head.weight" or (shape.tied and name == "model.embed_tokens.weight"):
        return True
    match = re.fullmatch(r"model\.layers\.(\d+)\.(self_attn\.v_proj|mlp\.down_proj)\.weight", name)
    if match is None:
        return False
    layer, eighth = int(match[1]), shape.layers // 8
    return layer < eighth or layer >= 7 * shape.layers // 8 or (layer - eighth) % 3 == 2


def rope_divisors(shape: Shape, scaling: RopeScaling) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Llama 3.1's rope scaling as GGUF keeps it: divisors of the frequencies."""
    factor, low, high, original = scaling
    wavelengths = 2 * np.pi * shape.rope_theta ** (np.arange(0, shape.head_dim, 2) / shape.head_dim)
    smooth = np.clip((original / wavelengths - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)


def _metadata(shape: Shape, format: str) -> dict[str, Any]:
    vocabulary = make_vocabulary(shape.vocab)
    kinds = [3 if token in SPECIALS else 1 for token in vocabulary.tokens]
    return {
        "general.architecture": "llama",
        "general.name": f"random {shape.name}",
        "general.file_type": FILE_TYPES[format],
        "general.quantization_version": 2,
        "llama.vocab_size": shape.vocab,
        "llama.context_length": shape.context,
        "llama.embedding_length": shape.hidden,
        "llama.block_count": shape.layers,
        "llama.feed_forward_length": shape.ffn,
        "llama.attention.head_count": shape.heads,
        "llama.attention.head_count_kv": shape.kv_heads,
        "llama.attention.key_length": shape.head_dim,
        "llama.attention.value_length": shape.head_dim,
        "llama.attention.layer_norm_rms_epsilon": shape.norm_eps,
        "llama.rope.dimension_count": shape.head_dim,
        "llama.rope.freq_base": shape.rope_theta,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": PRE_TOKENIZER,
        "tokenizer.ggml.tokens": vocabulary.tokens,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": [f"{a} {b}" for a, b in vocabulary.merges],
        "tokenizer.ggml.bos_token_id": BOS,
        "tokenizer.ggml.eos_token_id": EOS,
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": CHAT_TEMPLATE,
    }


def _write_header(
    file: BinaryIO, shape: Shape, format: str, tensors: Sequence[tuple[str, str, tuple[int, ...]]]
) -> None:
    listed = list(tensors)
    if shape.rope_scaling is not None:
        listed.insert(0, ("rope_freqs.weight", "F32", (shape.head_dim // 2,)))
    metadata: Mapping[str, Any] = _metadata(shape, format)
    file.write(b"GGUF" + struct.pack("<IQQ", 3, len(listed), len(metadata)))
    for key, value in metadata.items():
        file.write(_string(key) + _value(value))
    offset = 0
    for name, stored, dims in listed:
        file.write(_string(name) + struct.pack(f"<I{len(dims)}Q", len(dims), *reversed(dims)))
        file.write(struct.pack("<IQ", _TYPE_IDS[stored], offset))
        offset += -(-tensor_nbytes(stored, dims) // ALIGNMENT) * ALIGNMENT
    _pad(file)


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Any) -> bytes:
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + _string(value)
    if value and isinstance(value[0], int):
        return struct.pack("<IIQ", 9, 5, len(value)) + np.array(value, "<i4").tobytes()
    return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_string, value))


def _write_padded(file: BinaryIO, data: bytes) -> None:
    file.write(data)
    _pad(file)


def _pad(file: BinaryIO) -> None:
    file.write(bytes(-file.tell() % ALIGNMENT))
