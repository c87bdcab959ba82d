"""Gemma 3, its text part: norms before and after each block, five windowed layers to one full, a rotation for each."""

from __future__ import annotations

from dataclasses import replace

from octavo.base.errors import UnsupportedModelError
from octavo.models.config import GgufConfig, HfConfig
from octavo.models.family import (
    GGUF_NAMES,
    HF_NAMES,
    Family,
    Transform,
    gguf_spec,
    hf_layer_windows,
    hf_spec,
    weight_table,
)
from octavo.models.rope import make_rope
from octavo.models.spec import ModelSpec

_PERIOD = 6  # every sixth layer sees everything
_LOCAL_BASE = 10_000.0
_LAYERS_OF_27B = 62  # GGUF files do not state the query scale, which is another one there


def from_hf(config: HfConfig) -> ModelSpec:
    """Of a checkpoint with a vision tower this reads the text model; images are not supported."""
    if "text_config" in config.values:
        config = config.section("text_config")
    if config.values.get("use_bidirectional_attention"):
        raise UnsupportedModelError(f"{config.path}: use_bidirectional_attention is not supported.")
    # Files leave out what equals the first release's values.
    config = config.with_defaults(
        vocab_size=262_208, hidden_size=2304, intermediate_size=9216, num_hidden_layers=26, num_attention_heads=8,
        num_key_value_heads=4, head_dim=256, max_position_embeddings=131_072, rope_theta=1_000_000.0,
        sliding_window=4096, tie_word_embeddings=True, hidden_act=config.get("hidden_activation", "gelu_pytorch_tanh"),
        bos_token_id=2, eos_token_id=1,
    )  # fmt: skip
    spec = hf_spec(replace(config, values={**config.values, "rope_parameters": None, "rope_scaling": None}), "gemma3")
    period = config.size("sliding_window_pattern", _PERIOD)
    types = tuple("sliding_attention" if (i + 1) % period else "full_attention" for i in range(spec.num_layers))
    full_base, full_scaling = config.rope("full_attention")
    nested = "sliding_attention" in (config.get("rope_parameters", None) or {})
    local_base, local_scaling = config.rope("sliding_attention") if nested else (_LOCAL_BASE, {})
    if not nested:
        local_base = config.number("rope_local_base_freq", _LOCAL_BASE)
    windows = hf_layer_windows(config, types)
    ropes = tuple(make_rope(spec.head_dim, base, scaling, max_position=spec.max_position)
                  for base, scaling in ((full_base, full_scaling), (local_base, local_scaling)))  # fmt: skip
    bias = config.flag("attention_bias", False)
    return replace(
        _common(spec, windows),
        ropes=ropes,
        qkv_bias=bias,
        o_bias=bias,
        attention_scale=config.number("query_pre_attn_scalar", 256) ** -0.5,
        attention_soft_cap=config.optional_number("attn_logit_softcapping"),
        logits_soft_cap=config.optional_number("final_logit_softcapping"),
    )


def from_gguf(config: GgufConfig) -> ModelSpec:
    spec = gguf_spec(config, "gemma3")
    window, pattern = (
        config.size("attention.sliding_window"),
        config.get("attention.sliding_window_pattern", _PERIOD),
    )
    if isinstance(pattern, int):
        sliding = [bool((i + 1) % pattern) for i in range(spec.num_layers)]
    else:
        sliding = [bool(s) for s in pattern]
    local = make_rope(spec.head_dim, config.number("rope.freq_base_swa", _LOCAL_BASE))
    by_width = (spec.hidden_size / spec.num_heads) ** -0.5
    scale = config.number("attention.scale", by_width if spec.num_layers == _LAYERS_OF_27B else spec.head_dim**-0.5)
    return replace(
        _common(spec, tuple(window if s else None for s in sliding)),
        ropes=(*spec.ropes, local),
        activation="gelu_tanh",
        attention_scale=scale,
        attention_soft_cap=config.optional_number("attn_logit_softcapping"),
        logits_soft_cap=config.optional_number("final_logit_softcapping"),
    )


def _common(spec: ModelSpec, windows: tuple[int | None, ...]) -> ModelSpec:
    return replace(
        spec,
        layer_windows=windows,
        layer_ropes=tuple(0 if window is None else 1 for window in windows),
        embed_scale=spec.hidden_size**0.5,
        qk_norm=True,
        post_norms=True,
    )


_HF = {
    **HF_NAMES,
    "layers.{}.post_attn_norm": "model.layers.{}.post_attention_layernorm.weight",
    "layers.{}.ffn_norm": "model.layers.{}.pre_feedforward_layernorm.weight",
    "layers.{}.post_ffn_norm": "model.layers.{}.post_feedforward_layernorm.weight",
}
_PLUS_ONE: dict[str, Transform] = {name: "plus_one" for name in _HF if name.endswith("norm")}

FAMILY = Family(
    name="gemma3",
    titles=("Gemma 3 (text)",),
    hf_architectures=("Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"),
    hf_model_types=("gemma3_text", "gemma3"),
    gguf_architectures=("gemma3",),
    from_hf=from_hf,
    from_gguf=from_gguf,
    hf_weights=weight_table(_HF, _PLUS_ONE),
    gguf_weights=weight_table(GGUF_NAMES),
    hf_prefixes={"language_model.": "", "model.language_model.": "model."},
    ignored=(r"(model\.)?vision_tower\..*", r"(model\.)?multi_modal_projector\..*"),
)
