"""Writes the trained model: a GGUF of llama architecture with Q8_0 matrices, and a Hugging Face folder in float32.

Also reads the GGUF back into the names of Hugging Face, so that the numbers of the model card are those of the file
that ships.
"""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from tools.train_demo.recipe import DemoConfig
from tools.train_demo.template import CHAT_TEMPLATE, END_OF_TEXT, IM_END
from tools.train_demo.tokenizer import PRE_NAME, SPECIALS

NAME = "octavo-demo"
_LAYER = {
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


def gguf_names(cfg: DemoConfig) -> dict[str, str]:
    """Hugging Face's weight names to GGUF's."""
    names = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }
    for i in range(cfg.num_layers):
        names |= {f"model.layers.{i}.{a}.weight": f"blk.{i}.{b}.weight" for a, b in _LAYER.items()}
    return names


def to_pairs(w: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows of a q or k matrix from rotate-half order to neighbouring pairs, the order of GGUF's llama."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)


def to_halves(w: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """The inverse of to_pairs."""
    return w.reshape(heads, w.shape[0] // heads // 2, 2, w.shape[1]).swapaxes(1, 2).reshape(w.shape)


def _heads(name: str, cfg: DemoConfig) -> int:
    """Heads to reorder: those of q and k, none (0) elsewhere."""
    return cfg.num_heads if "q_proj" in name else cfg.num_kv_heads if "k_proj" in name else 0


def write_gguf(path: Path, weights: dict[str, Tensor], cfg: DemoConfig, tok: Tokenizer) -> None:
    """The shipped file: matrices in Q8_0, norms in float32, tokenizer and template inside."""
    w = gguf.GGUFWriter(path, "llama")
    w.add_name(NAME)
    w.add_description("A toy chat model for demonstrations and tests of Octavo")
    w.add_license("apache-2.0")
    w.add_float32("general.sampling.temp", 0.0)  # so small a model is right most often in its likeliest words
    w.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    w.add_vocab_size(cfg.vocab_size)
    w.add_context_length(cfg.max_positions)
    w.add_embedding_length(cfg.hidden_size)
    w.add_feed_forward_length(cfg.intermediate_size)
    w.add_block_count(cfg.num_layers)
    w.add_head_count(cfg.num_heads)
    w.add_head_count_kv(cfg.num_kv_heads)
    w.add_key_length(cfg.head_dim)
    w.add_value_length(cfg.head_dim)
    w.add_rope_dimension_count(cfg.head_dim)
    w.add_rope_freq_base(cfg.rope_theta)
    w.add_layer_norm_rms_eps(cfg.rms_norm_eps)
    _write_vocabulary(w, tok)
    for name, target in gguf_names(cfg).items():
        array = weights[name].float().numpy()
        if array.ndim == 1:
            w.add_tensor(target, array)
            continue
        heads = _heads(name, cfg)
        array = to_pairs(array, heads) if heads else array
        packed = gguf.quants.quantize(np.ascontiguousarray(array), gguf.GGMLQuantizationType.Q8_0)
        w.add_tensor(target, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def _write_vocabulary(w: gguf.GGUFWriter, tok: Tokenizer) -> None:
    model = json.loads(tok.to_str())["model"]
    tokens = [t for t, _ in sorted(tok.get_vocab().items(), key=lambda item: item[1])]
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre(PRE_NAME)
    w.add_token_list(tokens)
    w.add_token_types([gguf.TokenType.CONTROL if t in SPECIALS else gguf.TokenType.NORMAL for t in tokens])
    w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in model["merges"]])
    w.add_bos_token_id(tok.token_to_id(END_OF_TEXT))
    w.add_eos_token_id(tok.token_to_id(IM_END))
    w.add_pad_token_id(tok.token_to_id(END_OF_TEXT))
    w.add_add_bos_token(False)
    w.add_add_space_prefix(False)
    w.add_chat_template(CHAT_TEMPLATE)


def read_gguf(path: Path, cfg: DemoConfig) -> dict[str, Tensor]:
    """The file's weights dequantized to float32, under Hugging Face's names and in its row order."""
    tensors = {t.name: t for t in gguf.GGUFReader(path).tensors}
    out = {}
    for name, target in gguf_names(cfg).items():
        t = tensors[target]
        array = np.array(gguf.quants.dequantize(t.data, t.tensor_type), dtype=np.float32)
        heads = _heads(name, cfg)
        out[name] = torch.from_numpy(np.ascontiguousarray(to_halves(array, heads) if heads else array))
    return out


def write_hugging_face(folder: Path, weights: dict[str, Tensor], cfg: DemoConfig, tok: Tokenizer) -> None:
    """A folder for transformers' LlamaForCausalLM and for octavo: float32 safetensors, config, tokenizer, template."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file({n: t.contiguous().clone() for n, t in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": cfg.vocab_size,
        "hidden_size": cfg.hidden_size,
        "intermediate_size": cfg.intermediate_size,
        "num_hidden_layers": cfg.num_layers,
        "num_attention_heads": cfg.num_heads,
        "num_key_value_heads": cfg.num_kv_heads,
        "head_dim": cfg.head_dim,
        "rope_theta": cfg.rope_theta,
        "hidden_act": "silu",
        "rms_norm_eps": cfg.rms_norm_eps,
        "max_position_embeddings": cfg.max_positions,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "mlp_bias": False,
        "torch_dtype": "float32",
        "bos_token_id": tok.token_to_id(END_OF_TEXT),
        "eos_token_id": tok.token_to_id(IM_END),
        "pad_token_id": tok.token_to_id(END_OF_TEXT),
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    tok.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "bos_token": END_OF_TEXT,
                "eos_token": IM_END,
                "pad_token": END_OF_TEXT,
                "add_bos_token": False,
                "clean_up_tokenization_spaces": False,
                "chat_template": CHAT_TEMPLATE,
            },
            indent=1,
        )
        + "\n"
    )
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": tok.token_to_id(IM_END)}) + "\n")
