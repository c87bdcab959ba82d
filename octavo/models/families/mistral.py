"""Mistral: a Llama in which every layer may see a sliding window. Its GGUF files are of architecture llama."""

from __future__ import annotations

from dataclasses import replace

from octavo.models.config import HfConfig
from octavo.models.family import GGUF_NAMES, HF_NAMES, Family, hf_spec, weight_table
from octavo.models.spec import ModelSpec


def from_hf(config: HfConfig) -> ModelSpec:
    # An absent key means the window of the first release; later ones write null for none.
    window = config.size("sliding_window", 4096) if config.values.get("sliding_window", 4096) is not None else None
    spec = hf_spec(config, "mistral")
    return replace(spec, layer_windows=(window,) * spec.num_layers)


FAMILY = Family(
    name="mistral",
    titles=("Mistral",),
    hf_architectures=("MistralForCausalLM",),
    hf_model_types=("mistral",),
    gguf_architectures=(),
    from_hf=from_hf,
    from_gguf=None,
    hf_weights=weight_table(HF_NAMES),
    gguf_weights=weight_table(GGUF_NAMES),
)
