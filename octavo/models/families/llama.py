"""Llama 2, 3, 3.1, 3.2 and what shares their form: SmolLM2, TinyLlama, Yi and many others."""

from __future__ import annotations

from dataclasses import replace

from octavo.base.errors import UnsupportedModelError
from octavo.models.config import GgufConfig, HfConfig
from octavo.models.family import GGUF_NAMES, HF_NAMES, Family, Transform, gguf_spec, hf_spec, weight_table
from octavo.models.spec import ModelSpec


def from_hf(config: HfConfig) -> ModelSpec:
    bias = config.flag("attention_bias", False)
    return replace(hf_spec(config, "llama"), qkv_bias=bias, o_bias=bias, mlp_bias=config.flag("mlp_bias", False))


def from_gguf(config: GgufConfig) -> ModelSpec:
    """Also Mistral, whose files name this architecture."""
    spec = gguf_spec(config, "llama")
    if 2 * len(spec.ropes[0].inv_freq) != spec.head_dim:
        # The file's order of rows is that of a rotation over the whole head.
        raise UnsupportedModelError(f"{config.path}: llama that rotates a part of each head is not supported.")
    window = config.optional_size("attention.sliding_window")
    return replace(spec, layer_windows=(window,) * spec.num_layers)


_PAIRS: dict[str, Transform] = {f"layers.{{}}.{m}": "pairs_to_halves" for m in ("q", "k", "q_bias", "k_bias")}

FAMILY = Family(
    name="llama",
    titles=("Llama 2", "Llama 3", "Llama 3.1", "Llama 3.2", "SmolLM2"),
    hf_architectures=("LlamaForCausalLM",),
    hf_model_types=("llama",),
    gguf_architectures=("llama",),
    from_hf=from_hf,
    from_gguf=from_gguf,
    hf_weights=weight_table(HF_NAMES),
    gguf_weights=weight_table(GGUF_NAMES, _PAIRS),
)
