"""The forward of every decoder, written once against the ops of a backend.

What differs between models is in the spec and in which weights there are; there is no branch on a family here.
Shapes: T tokens, S positions whose logits are wanted, D hidden, H query heads, G key/value heads, hd head width,
F feed-forward width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from octavo.backends.ops import Forward, KvLayer, Ops, Value, Weight
from octavo.models.spec import LayerSpec, ModelSpec

Weights = Mapping[str, Weight]


def decoder_forward(spec: ModelSpec) -> Forward:
    """The forward of `spec`; its output is "logits" [S, V]. Weights go by the names of `ModelSpec.weights`."""
    layers = spec.layers

    def forward(ops: Ops, weights: Weights, kv: Sequence[KvLayer]) -> Mapping[str, Value]:
        x = ops.embed(weights["embed"], scale=spec.embed_scale)  # [T, D]
        for layer in layers:
            own = _LayerWeights(weights, layer.index)
            x = ops.add(x, _attention(spec, layer, ops, own, kv[layer.index], x))
            x = ops.add(x, _feed_forward(spec, ops, own, x))
        x = ops.rms_norm(ops.gather_rows(x), weights["norm"], eps=spec.norm_eps)  # [S, D]
        head = weights[spec.head_name]
        return {"logits": ops.logits(x, head, scale=spec.logits_scale, soft_cap=spec.logits_soft_cap)}

    return forward


class _LayerWeights:
    """The weights of one layer, by their short names."""

    def __init__(self, weights: Weights, layer: int) -> None:
        self._weights = weights
        self._prefix = f"layers.{layer}."

    def __getitem__(self, name: str) -> Weight:
        return self._weights[self._prefix + name]

    def get(self, name: str) -> Weight | None:
        return self._weights.get(self._prefix + name)


def _attention(spec: ModelSpec, layer: LayerSpec, ops: Ops, w: _LayerWeights, kv: KvLayer, x: Value) -> Value:
    """[T, D]: what the attention block of a layer adds to its input."""
    h = ops.rms_norm(x, w["attn_norm"], eps=spec.norm_eps)
    q = ops.linear(h, w["q"], w.get("q_bias"))  # [T, H * hd]
    k = ops.linear(h, w["k"], w.get("k_bias"))  # [T, G * hd]
    v = ops.linear(h, w["v"], w.get("v_bias"))
    if spec.qk_norm:
        q = ops.rms_norm(q, w["q_norm"], eps=spec.norm_eps, head_dim=spec.head_dim)
        k = ops.rms_norm(k, w["k_norm"], eps=spec.norm_eps, head_dim=spec.head_dim)
    if layer.rope is not None:
        q = ops.rope(q, layer.rope, head_dim=spec.head_dim)
        k = ops.rope(k, layer.rope, head_dim=spec.head_dim)
    ops.store_kv(k, v, kv)
    a = ops.attention(
        q,
        kv,
        num_heads=spec.num_heads,
        scale=spec.attention_scale,
        window=layer.window,
        soft_cap=spec.attention_soft_cap,
        sinks=w.get("sinks"),
    )
    out = ops.linear(a, w["o"], w.get("o_bias"))
    return ops.rms_norm(out, w["post_attn_norm"], eps=spec.norm_eps) if spec.post_norms else out


def _feed_forward(spec: ModelSpec, ops: Ops, w: _LayerWeights, x: Value) -> Value:
    """[T, D]: what the feed-forward block of a layer adds to its input."""
    h = ops.rms_norm(x, w["ffn_norm"], eps=spec.norm_eps)
    gate = ops.linear(h, w["gate"], w.get("gate_bias"))  # [T, F]
    up = ops.linear(h, w["up"], w.get("up_bias"))
    out = ops.linear(ops.gated(gate, up, spec.activation), w["down"], w.get("down_bias"))
    return ops.rms_norm(out, w["post_ffn_norm"], eps=spec.norm_eps) if spec.post_norms else out
