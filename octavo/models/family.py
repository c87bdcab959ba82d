"""Family: what a file of `families/` declares, and the parts that most of them share.

A family is a reader of a specification for each kind of file, and two tables from canonical weight names to the names
in those files, with the change of content (`Stored.transform`) that each needs. Knows no family by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from octavo.backends.ops import RopeSpec
from octavo.base.errors import ModelFormatError, UnsupportedModelError
from octavo.models.config import GgufConfig, HfConfig
from octavo.models.rope import make_rope, rope_type
from octavo.models.spec import ModelSpec

Transform = Literal["none", "plus_one", "pairs_to_halves"]
"""What happens between file and backend. "plus_one": the norm multiplies by 1 + weight. "pairs_to_halves": within each
head the file interleaves the rows of the first and the second half, as rotation of adjacent pairs wants them."""


@dataclass(frozen=True)
class Stored:
    """Where a canonical weight is kept in a file ("{}" stands for the layer) and what it becomes."""

    name: str
    transform: Transform = "none"


WeightTable = Mapping[str, Stored]


@dataclass(frozen=True)
class Family:
    """One file of `families/`.

    `titles` are the models a reader would look for. `hf_model_types` serve configurations without `architectures`.
    `hf_prefixes` maps prefixes of names in checkpoints to those of
    `hf_weights`. `ignored` are regular expressions for tensors that a file may hold and the text model has no use for.
    """

    name: str
    titles: tuple[str, ...]
    hf_architectures: tuple[str, ...]
    hf_model_types: tuple[str, ...]
    gguf_architectures: tuple[str, ...]
    from_hf: Callable[[HfConfig], ModelSpec]
    from_gguf: Callable[[GgufConfig], ModelSpec] | None
    hf_weights: WeightTable
    gguf_weights: WeightTable
    hf_prefixes: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()


def weight_table(names: Mapping[str, str], transforms: Mapping[str, Transform] | None = None) -> WeightTable:
    """A table from canonical name to file name, with a transform for some of the canonical names."""
    found = transforms or {}
    return {name: Stored(stored, found.get(name, "none")) for name, stored in names.items()}


def _with_biases(names: Mapping[str, str]) -> dict[str, str]:
    matrices = ("q", "k", "v", "o", "gate", "up", "down")
    biases = {f"layers.{{}}.{m}_bias": names[f"layers.{{}}.{m}"].removesuffix("weight") + "bias" for m in matrices}
    return {**names, **biases}


HF_NAMES: Mapping[str, str] = _with_biases(
    {
        "embed": "model.embed_tokens.weight",
        "layers.{}.attn_norm": "model.layers.{}.input_layernorm.weight",
        "layers.{}.q": "model.layers.{}.self_attn.q_proj.weight",
        "layers.{}.k": "model.layers.{}.self_attn.k_proj.weight",
        "layers.{}.v": "model.layers.{}.self_attn.v_proj.weight",
        "layers.{}.o": "model.layers.{}.self_attn.o_proj.weight",
        "layers.{}.q_norm": "model.layers.{}.self_attn.q_norm.weight",
        "layers.{}.k_norm": "model.layers.{}.self_attn.k_norm.weight",
        "layers.{}.sinks": "model.layers.{}.self_attn.sinks",
        "layers.{}.ffn_norm": "model.layers.{}.post_attention_layernorm.weight",
        "layers.{}.gate": "model.layers.{}.mlp.gate_proj.weight",
        "layers.{}.up": "model.layers.{}.mlp.up_proj.weight",
        "layers.{}.down": "model.layers.{}.mlp.down_proj.weight",
        "norm": "model.norm.weight",
        "head": "lm_head.weight",
    }
)
"""The names that most Hugging Face decoders use."""

GGUF_NAMES: Mapping[str, str] = _with_biases(
    {
        "embed": "token_embd.weight",
        "layers.{}.attn_norm": "blk.{}.attn_norm.weight",
        "layers.{}.q": "blk.{}.attn_q.weight",
        "layers.{}.k": "blk.{}.attn_k.weight",
        "layers.{}.v": "blk.{}.attn_v.weight",
        "layers.{}.o": "blk.{}.attn_output.weight",
        "layers.{}.q_norm": "blk.{}.attn_q_norm.weight",
        "layers.{}.k_norm": "blk.{}.attn_k_norm.weight",
        "layers.{}.sinks": "blk.{}.attn_sinks.weight",
        "layers.{}.post_attn_norm": "blk.{}.post_attention_norm.weight",
        "layers.{}.ffn_norm": "blk.{}.ffn_norm.weight",
        "layers.{}.gate": "blk.{}.ffn_gate.weight",
        "layers.{}.up": "blk.{}.ffn_up.weight",
        "layers.{}.down": "blk.{}.ffn_down.weight",
        "layers.{}.post_ffn_norm": "blk.{}.post_ffw_norm.weight",
        "norm": "output_norm.weight",
        "head": "output.weight",
    }
)
"""GGUF's names; one list serves all architectures."""


def hf_spec(config: HfConfig, architecture: str) -> ModelSpec:
    """What a config.json says in the words most decoders use: rotary GQA with gated feed-forward, no bias, no window.

    A family changes the rest with `dataclasses.replace`.
    """
    num_layers, num_heads = config.layer_count("num_hidden_layers"), config.size("num_attention_heads")
    head_dim = config.size("head_dim", max(1, config.size("hidden_size") // num_heads))
    num_kv_heads = config.size("num_key_value_heads", num_heads)
    if num_heads % num_kv_heads:
        raise ModelFormatError(config.path, f"{num_heads} heads cannot share {num_kv_heads} key/value heads evenly")
    base, scaling = config.rope()
    partial = scaling.get("partial_rotary_factor") or config.number("partial_rotary_factor", 1.0)
    max_position = config.size("max_position_embeddings")
    rope = make_rope(int(head_dim * partial), base, scaling, max_position=max_position)
    return ModelSpec(
        architecture=architecture,
        vocab_size=config.size("vocab_size"),
        hidden_size=config.size("hidden_size"),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        ffn_size=config.size("intermediate_size"),
        max_position=_hf_context(config, max_position),
        norm_eps=config.number("rms_norm_eps", 1e-6),
        activation=config.activation(),
        ropes=(rope,),
        layer_ropes=(0,) * num_layers,
        layer_windows=(None,) * num_layers,
        tied_embeddings=config.flag("tie_word_embeddings", False),
        attention_scale=head_dim**-0.5,
        bos_token_id=config.bos_token_id(),
        eos_token_ids=config.eos_token_ids(),
    )


def _hf_context(config: HfConfig, max_position: int) -> int:
    """Linear and YaRN scaling are often added to a configuration that keeps the length from before."""
    _, scaling = config.rope()
    kind, factor = rope_type(scaling), scaling.get("factor") or 1
    if kind == "linear":
        return int(max_position * factor)
    if kind == "yarn":
        original = scaling.get("original_max_position_embeddings") or max_position
        return max(max_position, int(original * factor))
    return max_position


def hf_layer_windows(config: HfConfig, default_types: tuple[str, ...]) -> tuple[int | None, ...]:
    """Windows from `layer_types` (or the given default) and `sliding_window`."""
    types = config.get("layer_types", default_types)
    if len(types) != len(default_types):
        raise ModelFormatError(config.path, f"layer_types has {len(types)} entries for {len(default_types)} layers")
    if unknown := sorted({str(t) for t in types} - {"full_attention", "sliding_attention"}):
        raise UnsupportedModelError(f"{config.path}: layers of the type {unknown[0]!r} are not supported.")
    return tuple(config.size("sliding_window") if t == "sliding_attention" else None for t in types)


def hf_upper_windows(config: HfConfig, num_layers: int) -> tuple[int | None, ...]:
    """Windows in the layers from `max_window_layers` on, if `use_sliding_window` says so (Qwen)."""
    sliding = config.flag("use_sliding_window", False)
    first = config.number("max_window_layers", 28)
    types = tuple("sliding_attention" if sliding and i >= first else "full_attention" for i in range(num_layers))
    return hf_layer_windows(config, types)


def gguf_spec(config: GgufConfig, architecture: str) -> ModelSpec:
    """What GGUF metadata says in the keys all architectures share; as `hf_spec`."""
    for key in ("expert_count", "attention.max_alibi_bias", "attention.clamp_kqv"):
        if value := config.number(key, 0):
            fact = f"{config.architecture} with {key} = {value:g}"
            raise UnsupportedModelError(f"{config.path}: {fact} is not supported.")
    num_layers, num_heads = config.layer_count("block_count"), config.size("attention.head_count")
    num_kv_heads = config.size("attention.head_count_kv", num_heads)
    if num_heads % num_kv_heads:
        raise ModelFormatError(config.path, f"{num_heads} heads cannot share {num_kv_heads} key/value heads evenly")
    head_dim = config.size("attention.key_length", max(1, config.size("embedding_length") // num_heads))
    if (values := config.size("attention.value_length", head_dim)) != head_dim:
        raise UnsupportedModelError(f"{config.path}: keys of {head_dim} but values of {values} are not supported.")
    max_position = config.size("context_length")
    return ModelSpec(
        architecture=architecture,
        vocab_size=config.vocab_size(),
        hidden_size=config.size("embedding_length"),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        ffn_size=config.size("feed_forward_length"),
        max_position=max_position,
        norm_eps=config.number("attention.layer_norm_rms_epsilon"),
        activation="silu",
        ropes=(gguf_rope(config, head_dim, max_position),),
        layer_ropes=(0,) * num_layers,
        layer_windows=(None,) * num_layers,
        tied_embeddings="output.weight" not in config.shapes,
        attention_scale=config.number("attention.scale", head_dim**-0.5),
        qkv_bias="blk.0.attn_q.bias" in config.shapes,
        o_bias="blk.0.attn_output.bias" in config.shapes,
        mlp_bias="blk.0.ffn_down.bias" in config.shapes,
        bos_token_id=config.token_id("bos"),
        eos_token_ids=config.eos_token_ids(),
    )


def gguf_rope(config: GgufConfig, head_dim: int, max_position: int) -> RopeSpec:
    """The rotation of a GGUF file. The tensor rope_freqs.weight divides the frequencies (Llama 3.1 and later)."""
    dim = config.size("rope.dimension_count", head_dim)
    base, scaling = config.rope()
    rope = make_rope(dim, base, scaling, max_position=max_position)
    # These multiply YaRN's own temperature.
    factor = config.number("rope.scaling.attn_factor", config.number("rope.scaling.yarn_attn_factor", 1.0))
    inv_freq = rope.inv_freq
    if "rope_freqs.weight" in config.shapes:
        divisors = config.tensor("rope_freqs.weight")
        if divisors.shape != (dim // 2,):
            raise ModelFormatError(config.path, f"rope_freqs.weight has the shape {divisors.shape}, not ({dim // 2},)")
        inv_freq = tuple(f / float(d) for f, d in zip(inv_freq, divisors, strict=True))
    return RopeSpec(inv_freq, rope.attention_factor * factor)
