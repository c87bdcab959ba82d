"""The demo model in torch: a Llama decoder of about seven million parameters, for training and for evaluation.

Weight names are those of Hugging Face's LlamaForCausalLM, so the state dict is a checkpoint of that class.
Knows nothing of text; the production forward lives in octavo and shares no code with this one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.train_demo.recipe import DemoConfig

KvCache = list[tuple[Tensor, Tensor]]


class Attention(nn.Module):
    """Grouped-query attention with rotary positions (rotate-half pairing, as Hugging Face stores it)."""

    def __init__(self, cfg: DemoConfig) -> None:
        super().__init__()
        self.cfg = cfg
        kv = cfg.num_kv_heads * cfg.head_dim
        self.q_proj = nn.Linear(cfg.hidden_size, cfg.num_heads * cfg.head_dim, bias=False)
        self.k_proj = nn.Linear(cfg.hidden_size, kv, bias=False)
        self.v_proj = nn.Linear(cfg.hidden_size, kv, bias=False)
        self.o_proj = nn.Linear(cfg.num_heads * cfg.head_dim, cfg.hidden_size, bias=False)

    def forward(
        self, x: Tensor, rope: tuple[Tensor, Tensor], past: tuple[Tensor, Tensor] | None, mask: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """x [B, T, D]; past keys and values [B, Hkv, P, d]; mask [B, 1, T, P + T] (True = visible) or None: causal."""
        b, t, _ = x.shape
        d = self.cfg.head_dim
        q = rotate(self.q_proj(x).view(b, t, -1, d).transpose(1, 2), rope)
        k = rotate(self.k_proj(x).view(b, t, -1, d).transpose(1, 2), rope)
        v = self.v_proj(x).view(b, t, -1, d).transpose(1, 2)
        if past is not None:
            k, v = torch.cat((past[0], k), 2), torch.cat((past[1], v), 2)
        group = self.cfg.num_heads // self.cfg.num_kv_heads
        out = attend(q, k.repeat_interleave(group, 1), v.repeat_interleave(group, 1), mask)
        return self.o_proj(out.transpose(1, 2).reshape(b, t, -1)), (k, v)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax attention in plain products: on short rows this is three times torch's CPU flash kernel in bfloat16."""
    scores = (q @ k.mT).float() * q.shape[-1] ** -0.5
    if mask is None:
        mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(k.shape[2] - q.shape[2])
    return scores.masked_fill(~mask, float("-inf")).softmax(-1).to(v.dtype) @ v


def rotate(x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary embedding (Su et al. 2021) of x [B, H, T, d]; cos and sin are [B or 1, 1, T, d]."""
    cos, sin = rope
    a, b = x.chunk(2, -1)
    return (x * cos + torch.cat((-b, a), -1) * sin).to(x.dtype)


class Mlp(nn.Module):
    """SwiGLU (Shazeer 2020)."""

    def __init__(self, cfg: DemoConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(cfg.hidden_size, cfg.intermediate_size, bias=False)
        self.up_proj = nn.Linear(cfg.hidden_size, cfg.intermediate_size, bias=False)
        self.down_proj = nn.Linear(cfg.intermediate_size, cfg.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [B, T, D] -> [B, T, D]."""
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """One pre-norm block."""

    def __init__(self, cfg: DemoConfig) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(cfg.hidden_size, cfg.rms_norm_eps)
        self.self_attn = Attention(cfg)
        self.post_attention_layernorm = nn.RMSNorm(cfg.hidden_size, cfg.rms_norm_eps)
        self.mlp = Mlp(cfg)

    def forward(
        self, x: Tensor, rope: tuple[Tensor, Tensor], past: tuple[Tensor, Tensor] | None, mask: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """See Attention.forward."""
        attended, kv = self.self_attn(self.input_layernorm(x), rope, past, mask)
        x = x + attended
        return x + self.mlp(self.post_attention_layernorm(x)), kv


class Decoder(nn.Module):
    """Embedding, layers and final norm (the `model.` part of a Hugging Face checkpoint)."""

    def __init__(self, cfg: DemoConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(cfg.vocab_size, cfg.hidden_size)
        self.layers = nn.ModuleList(Layer(cfg) for _ in range(cfg.num_layers))
        self.norm = nn.RMSNorm(cfg.hidden_size, cfg.rms_norm_eps)


class DemoModel(nn.Module):
    """The decoder and its own head: untied, so that vocabulary rows hold parameters that cost training little time."""

    def __init__(self, cfg: DemoConfig) -> None:
        super().__init__()
        self.cfg = cfg
        self.model = Decoder(cfg)
        self.lm_head = nn.Linear(cfg.hidden_size, cfg.vocab_size, bias=False)
        inv = cfg.rope_theta ** (-torch.arange(0, cfg.head_dim, 2).float() / cfg.head_dim)
        angles = torch.outer(torch.arange(cfg.max_positions).float(), inv)
        angles = torch.cat((angles, angles), -1)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        self._init_weights()

    def _init_weights(self) -> None:
        """Normal weights; the head starts as half the embedding, so that copying one word is copying every word."""
        for name, p in self.named_parameters():
            if p.ndim == 2:
                nn.init.normal_(p, std=0.1 if "embed" in name else 0.02)
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                with torch.no_grad():
                    p.mul_((2 * self.cfg.num_layers) ** -0.5)
        with torch.no_grad():
            self.lm_head.weight.copy_(self.model.embed_tokens.weight * 0.5)

    def hidden(
        self, ids: Tensor, positions: Tensor | None = None, past: KvCache | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, KvCache]:
        """ids [B, T] -> final hidden states [B, T, D] and the extended cache; positions [B, T] default to 0..T-1."""
        if positions is None:
            rope = (self.cos[: ids.shape[1]][None, None], self.sin[: ids.shape[1]][None, None])
        else:
            rope = (self.cos[positions][:, None], self.sin[positions][:, None])
        x = self.model.embed_tokens(ids)
        cache: KvCache = []
        for i, layer in enumerate(self.model.layers):
            x, kv = layer(x, rope, past[i] if past is not None else None, mask)
            cache.append(kv)
        return self.model.norm(x), cache

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., D] -> [..., V]."""
        return self.lm_head(hidden)

    def loss(self, ids: Tensor, rows: Tensor, targets: Tensor) -> Tensor:
        """Summed cross entropy at the flat positions `rows` [N] of ids [B, T], the taught ones."""
        hidden, _ = self.hidden(ids)
        picked = hidden.reshape(-1, hidden.shape[-1])[rows]
        return F.cross_entropy(self.logits(picked).float(), targets, reduction="sum")
