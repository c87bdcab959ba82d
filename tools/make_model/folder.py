"""Writes a model as a Hugging Face folder: config.json, one safetensors file, tokenizer files.

Source: the safetensors format; the configuration keys are those of LlamaForCausalLM.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from octavo.weights.geometry import tensor_nbytes
from tools.make_model.shapes import Shape
from tools.make_model.values import random_tensor
from tools.make_model.vocabulary import BOS, CHAT_TEMPLATE, EOS, SPECIALS, as_tokenizer, make_vocabulary

DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


def write_folder(folder: Path, shape: Shape, format: str, *, seed: int = 0) -> Path:
    """Writes `folder`, weights last. `format`, one of DTYPES, is that of the matrices; norms are F32."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", _config(shape, DTYPES[format]))
    _write_json(folder / "generation_config.json", {"bos_token_id": BOS, "eos_token_id": EOS})
    as_tokenizer(make_vocabulary(shape.vocab)).save(str(folder / "tokenizer.json"))
    texts = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": SPECIALS[BOS], "eos_token": SPECIALS[EOS],
             "chat_template": CHAT_TEMPLATE}  # fmt: skip
    _write_json(folder / "tokenizer_config.json", texts)
    _write_weights(folder / "model.safetensors", shape, format, seed)
    return folder


def _write_weights(path: Path, shape: Shape, format: str, seed: int) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, dims in shape.tensors():
        stored = format if len(dims) > 1 else "F32"
        end = offset + tensor_nbytes(stored, dims)
        header[name] = {"dtype": stored, "shape": list(dims), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, dims in shape.tensors():
            for piece in random_tensor(format, dims, seed=seed, name=name):
                file.write(piece.data)
    part.rename(path)


def _config(shape: Shape, dtype: str) -> dict[str, Any]:
    config: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocab,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": shape.norm_eps,
        "rope_theta": shape.rope_theta,
        "hidden_act": "silu",
        "tie_word_embeddings": shape.tied,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "torch_dtype": dtype,
    }
    if shape.rope_scaling is not None:
        factor, low, high, original = shape.rope_scaling
        config["rope_scaling"] = {"rope_type": "llama3", "factor": factor, "low_freq_factor": low,
                                  "high_freq_factor": high, "original_max_position_embeddings": original}  # fmt: skip
    return config


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n")
