"""The shapes that can be made, by name: numbers of the published models, all of the llama architecture.

A shape lists its tensors; how they are stored is another module's affair.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

RopeScaling = tuple[float, float, float, int]
"""Llama 3.1's rule: factor, low and high frequency factor, original context."""


@dataclass(frozen=True)
class Shape:
    """A decoder's sizes. `role` of a tensor is its Hugging Face module name, which both kinds of file derive from."""

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    ffn: int
    vocab: int
    context: int
    rope_theta: float
    tied: bool = True
    head_dim: int = 64
    rope_scaling: RopeScaling | None = None
    norm_eps: float = 1e-5

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Hugging Face names and shapes (outermost first), in the order of the forward."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        yield "model.embed_tokens.weight", (self.vocab, self.hidden)
        for i in range(self.layers):
            layer = f"model.layers.{i}."
            yield layer + "input_layernorm.weight", (self.hidden,)
            yield layer + "self_attn.q_proj.weight", (queries, self.hidden)
            yield layer + "self_attn.k_proj.weight", (keys, self.hidden)
            yield layer + "self_attn.v_proj.weight", (keys, self.hidden)
            yield layer + "self_attn.o_proj.weight", (self.hidden, queries)
            yield layer + "post_attention_layernorm.weight", (self.hidden,)
            yield layer + "mlp.gate_proj.weight", (self.ffn, self.hidden)
            yield layer + "mlp.up_proj.weight", (self.ffn, self.hidden)
            yield layer + "mlp.down_proj.weight", (self.hidden, self.ffn)
        yield "model.norm.weight", (self.hidden,)
        if not self.tied:
            yield "lm_head.weight", (self.vocab, self.hidden)


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("tiny", 256, 2, 4, 2, 512, 1024, 2048, 10_000.0),
        Shape("demo", 256, 6, 4, 2, 768, 4096, 2048, 10_000.0, tied=False),
        Shape("smollm2-135m", 576, 30, 9, 3, 1536, 49152, 8192, 100_000.0),
        Shape("smollm2-135m-32k", 576, 30, 9, 3, 1536, 49152, 32768, 1_000_000.0),
        Shape("smollm2-360m", 960, 32, 15, 5, 2560, 49152, 8192, 100_000.0),
        Shape("smollm2-1.7b", 2048, 24, 32, 32, 8192, 49152, 8192, 130_000.0),
        Shape("llama3.2-1b", 2048, 16, 32, 8, 8192, 128256, 131072, 500_000.0, rope_scaling=(32.0, 1.0, 4.0, 8192)),
    )
}
