"""Qwen2 and Qwen2.5: biases on q, k and v; optionally a window in the upper layers."""

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
    spec = hf_spec(config, "qwen2")
    return replace(spec, qkv_bias=True, layer_windows=hf_upper_windows(config, spec.num_layers))


def from_gguf(config: GgufConfig) -> ModelSpec:
    return gguf_spec(config, "qwen2")


FAMILY = Family(
    name="qwen2",
    titles=("Qwen2", "Qwen2.5"),
    hf_architectures=("Qwen2ForCausalLM",),
    hf_model_types=("qwen2",),
    gguf_architectures=("qwen2",),
    from_hf=from_hf,
    from_gguf=from_gguf,
    hf_weights=weight_table(HF_NAMES),
    gguf_weights=weight_table(GGUF_NAMES),
)
