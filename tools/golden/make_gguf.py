"""Writes the golden checkpoints as GGUF (F32) with the gguf package, the way llama.cpp's converter lays them out.

python -m tools.golden.make_gguf      (after tools.golden.make_logits)
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import gguf
import numpy as np
from safetensors.numpy import load_file

from tools.golden.checkpoints import CHECKPOINTS, Checkpoint

LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
GEMMA_NAMES = {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
TOP_NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def main() -> None:
    for checkpoint in CHECKPOINTS:
        if checkpoint.gguf_architecture is not None:
            write(checkpoint)
            print(checkpoint.name)


def write(checkpoint: Checkpoint) -> None:
    config = json.loads((checkpoint.folder / "config.json").read_text())
    writer = gguf.GGUFWriter(str(checkpoint.folder / "model.gguf"), checkpoint.gguf_architecture)
    add_metadata(writer, config)
    if (divisors := rope_divisors(config)) is not None:
        writer.add_tensor("rope_freqs.weight", divisors)
    for name, values in load_file(checkpoint.folder / "model.safetensors").items():
        writer.add_tensor(gguf_name(name, checkpoint), converted(name, values, config, checkpoint))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_metadata(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    if config.get("head_dim"):
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
        writer.add_rope_dimension_count(config["head_dim"])
    if config.get("sliding_window"):
        writer.add_sliding_window(config["sliding_window"])
    add_rope(writer, config)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"<{i}>" for i in range(config["vocab_size"])])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])


def add_rope(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    rope = config["rope_parameters"]
    rope = rope.get("full_attention", rope)
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])


def rope_divisors(config: dict[str, Any]) -> np.ndarray | None:
    """Llama 3.1's scaling as divisors of the frequencies."""
    rope = config["rope_parameters"]
    if rope.get("rope_type") != "llama3":
        return None
    dim, context = config["head_dim"], rope["original_max_position_embeddings"]
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    divisors = []
    for i in range(0, dim, 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (i / dim)
        if wavelength < context / high:
            divisors.append(1.0)
        elif wavelength > context / low:
            divisors.append(factor)
        else:
            smooth = (context / wavelength - low) / (high - low)
            divisors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(divisors, np.float32)


def gguf_name(name: str, checkpoint: Checkpoint) -> str:
    stem, _, kind = name.rpartition(".")
    if stem in TOP_NAMES:
        return f"{TOP_NAMES[stem]}.{kind}"
    layer = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", stem)
    assert layer is not None, name
    names = {**LAYER_NAMES, **GEMMA_NAMES} if checkpoint.gguf_architecture == "gemma3" else LAYER_NAMES
    return f"blk.{layer[1]}.{names[layer[2]]}.{kind}"


def converted(name: str, values: np.ndarray, config: dict[str, Any], checkpoint: Checkpoint) -> np.ndarray:
    if checkpoint.gguf_architecture == "gemma3" and name.endswith("norm.weight"):
        return values + np.float32(1)
    if checkpoint.gguf_architecture == "llama":
        heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}
        for projection, key in heads.items():
            if f".{projection}." in name:
                return interleaved(values, config[key])
    return values


def interleaved(values: np.ndarray, num_heads: int) -> np.ndarray:
    """The rows of each head's two halves, taken in turn."""
    halves = values.reshape(num_heads, 2, values.shape[0] // num_heads // 2, *values.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(values.shape))


if __name__ == "__main__":
    main()
