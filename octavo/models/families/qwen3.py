"""Qwen3: a norm on each head of q and k, heads wider than hidden / heads, no biases."""

from __future__ import annotations

from dataclasses import replace

from octavo.models.config import GgufConfig, HfConfig
from octavo.models.family import (
    GGUF_NAMES,
    HF_NAMES,
    Family,
    gguf_spec,
    hf_spec,
    hf_upper_windows,
    weight_table,
)
from octavo.models.spec import ModelSpec


def from_hf(config: HfConfig) -> ModelSpec:
    spec = hf_spec(config.with_defaults(head_dim=128), "qwen3")
    bias = config.flag("attention_bias", False)
    windows = hf_upper_windows(config, spec.num_layers)
    return replace(spec, qk_norm=True, qkv_bias=bias, o_bias=bias, layer_windows=windows)


def from_gguf(config: GgufConfig) -> ModelSpec:
    return replace(gguf_spec(config, "qwen3"), qk_norm=True)


FAMILY = Family(
    name="qwen3",
    titles=("Qwen3",),
    hf_architectures=("Qwen3ForCausalLM",),
    hf_model_types=("qwen3",),
    gguf_architectures=("qwen3",),
    from_hf=from_hf,
    from_gguf=from_gguf,
    hf_weights=weight_table(HF_NAMES),
    gguf_weights=weight_table(GGUF_NAMES),
)
