"""Specs from the configurations that published models have, in the older and the newer words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octavo.base.errors import ModelFormatError, UnsupportedModelError
from octavo.models.config import GgufConfig, HfConfig
from octavo.models.families import FAMILIES, family_of_gguf, family_of_hf
from octavo.models.spec import ModelSpec

PATH = Path("config.json")

LLAMA_32_1B: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"], "attention_bias": False, "bos_token_id": 128000,
    "eos_token_id": [128001, 128008, 128009], "head_dim": 64, "hidden_act": "silu", "hidden_size": 2048,
    "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": False, "model_type": "llama",
    "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
    "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                     "original_max_position_embeddings": 8192, "rope_type": "llama3"},
    "rope_theta": 500000.0, "tie_word_embeddings": True, "vocab_size": 128256,
}  # fmt: skip
MISTRAL_01: dict[str, Any] = {
    "architectures": ["MistralForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
    "hidden_size": 4096, "intermediate_size": 14336, "max_position_embeddings": 32768, "model_type": "mistral",
    "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0, "sliding_window": 4096, "tie_word_embeddings": False, "vocab_size": 32000,
}  # fmt: skip
QWEN25_7B: dict[str, Any] = {
    "architectures": ["Qwen2ForCausalLM"], "bos_token_id": 151643, "eos_token_id": 151645, "hidden_act": "silu",
    "hidden_size": 3584, "intermediate_size": 18944, "max_position_embeddings": 32768, "max_window_layers": 28,
    "model_type": "qwen2", "num_attention_heads": 28, "num_hidden_layers": 28, "num_key_value_heads": 4,
    "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 131072, "tie_word_embeddings": False,
    "use_sliding_window": False, "vocab_size": 152064,
}  # fmt: skip
GEMMA3_1B: dict[str, Any] = {
    "architectures": ["Gemma3ForCausalLM"], "attention_bias": False, "attn_logit_softcapping": None,
    "bos_token_id": 2, "eos_token_id": [1, 106], "final_logit_softcapping": None, "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 1152, "intermediate_size": 6912,
    "max_position_embeddings": 32768, "model_type": "gemma3_text", "num_attention_heads": 4,
    "num_hidden_layers": 26, "num_key_value_heads": 1, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06,
    "rope_local_base_freq": 10000, "rope_scaling": None, "rope_theta": 1000000, "sliding_window": 512,
    "sliding_window_pattern": 6, "vocab_size": 262144,
}  # fmt: skip
GEMMA3_4B: dict[str, Any] = {
    "architectures": ["Gemma3ForConditionalGeneration"], "eos_token_id": [1, 106], "model_type": "gemma3",
    "text_config": {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text",
                    "num_hidden_layers": 34, "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
                    "sliding_window": 1024},
    "vision_config": {"hidden_size": 1152},
}  # fmt: skip


def spec_of(values: dict[str, Any], generation: dict[str, Any] | None = None) -> ModelSpec:
    config = HfConfig(values, PATH, generation or {})
    return family_of_hf(config.architectures, values.get("model_type")).from_hf(config)


def without(values: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {k: v for k, v in values.items() if k not in keys}


def test_llama_32() -> None:
    spec = spec_of(LLAMA_32_1B)
    assert (spec.num_layers, spec.num_heads, spec.num_kv_heads, spec.head_dim) == (16, 32, 8, 64)
    assert spec.tied_embeddings and spec.max_position == 131072
    assert spec.eos_token_ids == (128001, 128008, 128009)
    assert spec.num_parameters == 1_235_814_400  # as its model card counts
    frequencies = spec.ropes[0].inv_freq
    assert frequencies[0] == 1.0  # short waves stay
    assert frequencies[-1] == pytest.approx(500000.0 ** (-62 / 64) / 32)  # long ones shrink


def test_older_and_newer_words_for_rope_mean_the_same() -> None:
    newer = without(LLAMA_32_1B, "rope_scaling", "rope_theta")
    newer["rope_parameters"] = {**LLAMA_32_1B["rope_scaling"], "rope_theta": 500000.0}
    assert spec_of(newer) == spec_of(LLAMA_32_1B)
    older = {**LLAMA_32_1B, "rope_scaling": {"type": "linear", "factor": 2.0}}
    newer["rope_parameters"] = {"rope_type": "linear", "factor": 2.0, "rope_theta": 500000.0}
    assert spec_of(newer) == spec_of(older)
    assert spec_of(older).max_position == 2 * 131072


def test_model_type_serves_where_architectures_are_not_listed() -> None:
    assert spec_of(without(MISTRAL_01, "architectures")) == spec_of(MISTRAL_01)


def test_mistral_windows() -> None:
    assert {layer.window for layer in spec_of(MISTRAL_01).layers} == {4096}
    assert {layer.window for layer in spec_of({**MISTRAL_01, "sliding_window": None}).layers} == {None}
    assert spec_of(without(MISTRAL_01, "sliding_window")) == spec_of(MISTRAL_01)
    # A window that no context outgrows is none.
    assert {layer.window for layer in spec_of({**MISTRAL_01, "sliding_window": 32768}).layers} == {None}


def test_qwen2_windows_and_yarn() -> None:
    spec = spec_of(QWEN25_7B)
    assert spec.qkv_bias and not spec.o_bias
    assert set(spec.layer_windows) == {None}
    upper = spec_of({**QWEN25_7B, "use_sliding_window": True, "sliding_window": 4096, "max_window_layers": 21})
    assert upper.layer_windows == (None,) * 21 + (4096,) * 7
    scaling = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    longer = spec_of({**QWEN25_7B, "rope_scaling": scaling})
    assert longer.max_position == 131072
    assert longer.ropes[0].attention_factor == pytest.approx(0.1 * np.log(4.0) + 1)


def test_gemma3() -> None:
    spec = spec_of(GEMMA3_1B)
    assert [i for i, layer in enumerate(spec.layers) if layer.window is None] == [5, 11, 17, 23]
    assert {layer.window for layer in spec.layers} == {None, 512}
    assert spec.embed_scale == pytest.approx(1152**0.5)
    assert spec.attention_scale == 1 / 16
    assert spec.layers[0].rope != spec.layers[5].rope
    assert spec.tied_embeddings and spec.qk_norm and spec.post_norms and spec.activation == "gelu_tanh"
    newer = without(GEMMA3_1B, "rope_theta", "rope_local_base_freq", "rope_scaling", "sliding_window_pattern")
    newer["layer_types"] = ["full_attention" if i % 6 == 5 else "sliding_attention" for i in range(26)]
    newer["rope_parameters"] = {"full_attention": {"rope_type": "default", "rope_theta": 1000000},
                                "sliding_attention": {"rope_type": "default", "rope_theta": 10000}}  # fmt: skip
    assert spec_of(newer) == spec


def test_gemma3_with_a_vision_tower_is_read_as_its_text_model() -> None:
    spec = spec_of(GEMMA3_4B)
    assert (spec.num_layers, spec.num_heads, spec.num_kv_heads, spec.vocab_size) == (34, 8, 4, 262208)
    assert spec.eos_token_ids == (1, 106)
    assert spec.max_position == 131072  # the scaling is part of it already
    full, local = spec.ropes
    assert full.inv_freq[0] == 1 / 8 and local.inv_freq[0] == 1


def test_end_tokens_of_both_files_count() -> None:
    spec = spec_of(QWEN25_7B, {"eos_token_id": [151645, 151643]})
    assert spec.eos_token_ids == (151645, 151643)


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"architectures": ["MambaForCausalLM"]}, UnsupportedModelError, "MambaForCausalLM.*LlamaForCausalLM"),
        ({"hidden_act": "xielu"}, UnsupportedModelError, "xielu.*silu"),
        ({"rope_scaling": {"rope_type": "longrope"}}, UnsupportedModelError, "longrope.*yarn"),
        ({"rope_scaling": {"type": "linear"}}, UnsupportedModelError, "linear.*factor"),
        ({"num_hidden_layers": None}, ModelFormatError, "num_hidden_layers is missing"),
        ({"hidden_size": "wide"}, ModelFormatError, "hidden_size.*positive whole number.*wide"),
        ({"num_hidden_layers": 10**9}, ModelFormatError, "num_hidden_layers must be at most 4096"),
        ({"eos_token_id": "</s>"}, ModelFormatError, "eos_token_id must be a token id"),
        ({"num_key_value_heads": 5}, ModelFormatError, "32 heads cannot share 5"),
        ({"tie_word_embeddings": "yes"}, ModelFormatError, "tie_word_embeddings.*true or false"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(change: dict[str, Any], error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        spec_of({**LLAMA_32_1B, **change})


def test_layer_types_are_checked() -> None:
    with pytest.raises(UnsupportedModelError, match="chunked_attention"):
        spec_of({**GEMMA3_1B, "layer_types": ["chunked_attention"] * 26})
    with pytest.raises(ModelFormatError, match="3 entries for 26 layers"):
        spec_of({**GEMMA3_1B, "layer_types": ["full_attention"] * 3})


# ---------------------------------------------------------------- GGUF


def gguf_config(
    architecture: str = "llama", shapes: dict[str, tuple[int, ...]] | None = None, **more: Any
) -> GgufConfig:
    keys = {
        "block_count": 4, "context_length": 128, "embedding_length": 32, "feed_forward_length": 64,
        "attention.head_count": 4, "attention.layer_norm_rms_epsilon": 1e-6,
    }  # fmt: skip
    values = {f"{architecture}.{k}": v for k, v in keys.items()}
    values |= {k if "tokenizer" in k else f"{architecture}.{k}": v for k, v in more.items()}
    values["general.architecture"] = architecture
    divisors = np.array([1, 1, 2, 4], np.float32)
    return GgufConfig(values, Path("m.gguf"), {"token_embd.weight": (100, 32), **(shapes or {})}, lambda _: divisors)


def gguf_spec_of(*args: Any, **more: Any) -> ModelSpec:
    config = gguf_config(*args, **more)
    family = family_of_gguf(config.architecture)
    assert family.from_gguf is not None
    return family.from_gguf(config)


def test_gguf_defaults() -> None:
    spec = gguf_spec_of()
    assert (spec.vocab_size, spec.num_kv_heads, spec.head_dim, spec.tied_embeddings) == (100, 4, 8, True)
    assert spec.ropes[0].inv_freq == tuple(10000.0 ** (-2 * i / 8) for i in range(4))
    assert not gguf_spec_of("llama", {"output.weight": (100, 32)}).tied_embeddings
    assert gguf_spec_of("qwen2", {"blk.0.attn_q.bias": (32,)}).qkv_bias


def test_gguf_divisors_and_scaling_of_frequencies() -> None:
    plain = gguf_spec_of().ropes[0].inv_freq
    divided = gguf_spec_of("llama", {"rope_freqs.weight": (4,)}).ropes[0].inv_freq
    assert divided == tuple(f / d for f, d in zip(plain, (1, 1, 2, 4), strict=True))
    linear = gguf_spec_of(**{"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}).ropes[0].inv_freq
    assert linear == tuple(f / 4 for f in plain) == gguf_spec_of(**{"rope.scale_linear": 4.0}).ropes[0].inv_freq
    yarn = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 32}
    assert gguf_spec_of(**yarn, **{"rope.scaling.attn_factor": 2.0}).ropes[0].attention_factor == pytest.approx(
        2 * (0.1 * np.log(4.0) + 1)
    )


def test_gguf_values_per_layer_must_agree() -> None:
    assert gguf_spec_of(**{"attention.head_count_kv": [2, 2, 2, 2]}).num_kv_heads == 2
    with pytest.raises(UnsupportedModelError, match=r"head_count_kv differs from layer to layer"):
        gguf_spec_of(**{"attention.head_count_kv": [2, 2, 4, 2]})


def test_gguf_gemma3() -> None:
    keys = {"attention.sliding_window": 16, "attention.key_length": 16, "attention.value_length": 16,
            "rope.freq_base": 1000000.0, "block_count": 7}  # fmt: skip
    spec = gguf_spec_of("gemma3", None, **keys)
    assert spec.layer_windows == (16,) * 5 + (None, 16)
    assert spec.attention_scale == 1 / 4
    assert spec.layers[0].rope.inv_freq[1] == 10000.0 ** (-2 / 16)  # type: ignore[union-attr]
    pattern = {"attention.sliding_window_pattern": [True, False] * 3 + [True]}
    assert gguf_spec_of("gemma3", None, **keys, **pattern).layer_windows == (16, None) * 3 + (16,)
    assert gguf_spec_of("gemma3", None, **{**keys, "block_count": 62}).attention_scale == (32 / 4) ** -0.5


def test_gguf_end_tokens() -> None:
    named = {f"tokenizer.ggml.{kind}_token_id": i for kind, i in (("eos", 1), ("eot", 3), ("eom", 1))}
    assert gguf_spec_of(**named).eos_token_ids == (1, 3)


@pytest.mark.parametrize(
    ("architecture", "more", "words"),
    [
        ("mamba", {}, "mamba.*llama"),
        ("llama", {"expert_count": 8}, "expert_count = 8"),
        ("llama", {"rope.dimension_count": 4}, "a part of each head"),
        ("llama", {"attention.value_length": 4}, "keys of 8 but values of 4"),
        (
            "qwen2",
            {"rope.scaling.type": "yarn", "rope.scaling.factor": 2.0, "rope.scaling.yarn_ext_factor": 0.5},
            "yarn_ext_factor",
        ),
        ("llama", {"rope.scaling.type": "longrope", "rope.scaling.factor": 2.0}, "longrope"),
    ],
)
def test_gguf_refusals(architecture: str, more: dict[str, Any], words: str) -> None:
    with pytest.raises(UnsupportedModelError, match=words):
        gguf_spec_of(architecture, None, **more)


# ---------------------------------------------------------------- what follows from a spec


def places(spec: ModelSpec) -> tuple[int, list[tuple[int | None, int]]]:
    """Layers per page, and for each group its window and how many layers it has."""
    layout = spec.kv_layout("f16", 16)
    assert len(set(zip(layout.layer_group, layout.layer_place, strict=True))) == spec.num_layers
    assert max(layout.layer_place) < layout.layers_per_page
    for layer, group in zip(spec.layers, layout.layer_group, strict=True):
        assert layout.groups[group].window == layer.window
    return layout.layers_per_page, [(g.window, layout.layer_group.count(i)) for i, g in enumerate(layout.groups)]


def test_kv_layouts() -> None:
    assert places(spec_of(LLAMA_32_1B)) == (16, [(None, 16)])
    assert places(spec_of(MISTRAL_01)) == (32, [(4096, 32)])
    assert places(spec_of(GEMMA3_1B)) == (4, [(None, 4)] + [(512, 4)] * 5 + [(512, 2)])
    assert places(spec_of(GEMMA3_4B)) == (5, [(None, 5)] + [(1024, 5)] * 5 + [(1024, 4)])
    layout = spec_of(LLAMA_32_1B).kv_layout("bf16", 32)
    assert layout.bytes_per_token == 2 * 16 * 8 * 64 * 2
    names = [group.name for group in spec_of(GEMMA3_1B).kv_layout().groups]
    assert len(set(names)) == len(names)


def test_weights_follow_from_the_spec() -> None:
    spec = spec_of(QWEN25_7B)
    weights = spec.weights()
    assert weights["layers.3.k"].shape == (512, 3584) and weights["layers.3.k"].shard == "rows"
    assert weights["layers.3.o"].shard == "columns" and weights["layers.27.attn_norm"].shard is None
    assert {"layers.0.q_bias", "layers.0.k_bias", "layers.0.v_bias"} <= set(weights)
    assert "layers.0.o_bias" not in weights and "head" in weights
    assert "head" not in replace(spec, tied_embeddings=True).weights()


def test_every_table_has_a_name_for_every_weight_of_its_family() -> None:
    everything = replace(spec_of(GEMMA3_1B), qkv_bias=True, o_bias=True, mlp_bias=True, tied_embeddings=False)
    standard = {n.replace("layers.0.", "layers.{}.") for n in everything.weights() if "layers.1" not in n}
    for family in FAMILIES:
        wanted = standard if family.name == "gemma3" else {n for n in standard if "post_" not in n}
        wanted = {n for n in wanted if not n.startswith("layers.") or "{}" in n}
        assert wanted <= set(family.hf_weights), family.name
        assert wanted <= set(family.gguf_weights), family.name
