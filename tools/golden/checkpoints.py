"""The golden checkpoints: one small configuration for every form of model that Octavo reads.

Sizes are tiny and odd on purpose; windows, rope scaling and patterns are such that the sequences feel them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parents[2] / "tests" / "golden"
LENGTHS = (45, 17, 1)
SMALL: dict[str, Any] = {
    "vocab_size": 56,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": None,
}


@dataclass(frozen=True)
class Checkpoint:
    """`config_class` and `model_class` are transformers' names; `changes` are on top of SMALL.

    `gguf_architecture` None: GGUF has no words for this form.
    """

    name: str
    config_class: str
    model_class: str
    gguf_architecture: str | None
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return GOLDEN / self.name

    @property
    def values(self) -> dict[str, Any]:
        return {**SMALL, **self.changes}


def _llama(name: str, **changes: Any) -> Checkpoint:
    return Checkpoint(name, "LlamaConfig", "LlamaForCausalLM", "llama", changes)


def _qwen2(name: str, **changes: Any) -> Checkpoint:
    return Checkpoint(name, "Qwen2Config", "Qwen2ForCausalLM", "qwen2", changes)


_LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}

CHECKPOINTS = (
    _llama("llama2_mha", num_key_value_heads=4),
    _llama("llama3_gqa", rope_parameters={"rope_type": "default", "rope_theta": 500000.0}),
    _llama("llama32_rope", rope_parameters=_LLAMA3_ROPE, tie_word_embeddings=True, head_dim=16, num_attention_heads=2,
           num_key_value_heads=1),
    _llama("llama_mqa", num_key_value_heads=1, head_dim=6),
    _llama("llama_biases", attention_bias=True, mlp_bias=True),
    _llama("smollm2", tie_word_embeddings=True, num_attention_heads=3, num_key_value_heads=1, hidden_size=24,
           rope_parameters={"rope_type": "default", "rope_theta": 100000.0}),
    Checkpoint("mistral_window", "MistralConfig", "MistralForCausalLM", "llama", {"sliding_window": 9, "head_dim": 6}),
    _qwen2("qwen2_biases", tie_word_embeddings=True),
    _qwen2("qwen25_yarn", rope_parameters={"rope_type": "yarn", "rope_theta": 1000000.0, "factor": 4.0,
                                           "original_max_position_embeddings": 16}),
    Checkpoint("qwen2_upper_window", "Qwen2Config", "Qwen2ForCausalLM", None,
               {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1}),
    Checkpoint("qwen3_head_dim", "Qwen3Config", "Qwen3ForCausalLM", "qwen3", {"head_dim": 10}),
    Checkpoint(
        "gemma3_text", "Gemma3TextConfig", "Gemma3ForCausalLM", "gemma3",
        {
            "num_hidden_layers": 7, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
            "sliding_window": 9, "query_pre_attn_scalar": 8, "tie_word_embeddings": True,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            },
        },
    ),
)  # fmt: skip
