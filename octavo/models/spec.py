"""ModelSpec: everything the forward and the planners need to know of a model, as data read from its files.

Also what follows from it alone: the view of one layer, the weights with their shapes, the layout of KV pages. Knows
neither where the data came from (`config`, `families/`) nor how it is computed (`decoder`).
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Literal

from octavo.backends.ops import Activation, KvDtype, KvLayout, RopeSpec
from octavo.base.types import KvGroup

ShardAxis = Literal["rows", "columns"]

MAX_PAGE_WASTE = 0.1
"""The share of places that the pages of one kind of layers may leave empty for the sake of fewer groups."""


@dataclass(frozen=True)
class LayerSpec:
    """What may differ from layer to layer. `window` None: all positions; `rope` None: no rotation."""

    index: int
    window: int | None
    rope: RopeSpec | None


@dataclass(frozen=True)
class WeightSpec:
    """A weight the forward asks for. `shard` is the axis that tensor parallel ranks divide (None: each has all)."""

    shape: tuple[int, ...]
    shard: ShardAxis | None = None


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """One decoder.

    `architecture` names the family. `attention_scale` multiplies q.k. `layer_windows[l]` is the number of positions
    layer l sees, its own included (None: all). `layer_ropes[l]` is an index into `ropes`, or None. `max_position` is
    the longest context the model was made for, rope scaling included. `eos_token_ids` are those that the model's
    description names; the tokenizer may know more.
    """

    architecture: str
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    ffn_size: int
    max_position: int
    norm_eps: float
    activation: Activation
    ropes: tuple[RopeSpec, ...]
    layer_ropes: tuple[int | None, ...]
    layer_windows: tuple[int | None, ...]
    tied_embeddings: bool
    attention_scale: float
    embed_scale: float = 1.0
    logits_scale: float = 1.0
    attention_soft_cap: float | None = None
    logits_soft_cap: float | None = None
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    post_norms: bool = False
    attention_sinks: bool = False
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        assert len(self.layer_ropes) == len(self.layer_windows) == self.num_layers
        assert self.num_heads % self.num_kv_heads == 0

    @property
    def layers(self) -> tuple[LayerSpec, ...]:
        """The layers in order. A window that no context can outgrow is no window."""
        return tuple(
            LayerSpec(index, self._window(index), None if rope is None else self.ropes[rope])
            for index, rope in enumerate(self.layer_ropes)
        )

    def _window(self, layer: int) -> int | None:
        window = self.layer_windows[layer]
        return None if window is None or window >= self.max_position else window

    @property
    def head_name(self) -> str:
        """The weight that turns hidden states into logits."""
        return "embed" if self.tied_embeddings else "head"

    def weights(self) -> dict[str, WeightSpec]:
        """The weights the forward asks for, by canonical name; matrices are [outputs, inputs]."""
        found = {"embed": WeightSpec((self.vocab_size, self.hidden_size), "rows")}
        for layer in range(self.num_layers):
            found |= {f"layers.{layer}.{name}": weight for name, weight in self._layer_weights().items()}
        found["norm"] = WeightSpec((self.hidden_size,))
        if not self.tied_embeddings:
            found["head"] = WeightSpec((self.vocab_size, self.hidden_size), "rows")
        return found

    def _layer_weights(self) -> dict[str, WeightSpec]:
        width, heads, kv_heads = (
            self.hidden_size,
            self.num_heads * self.head_dim,
            self.num_kv_heads * self.head_dim,
        )
        norm, head_norm = WeightSpec((width,)), WeightSpec((self.head_dim,))
        matrices = {
            "q": (heads, width),
            "k": (kv_heads, width),
            "v": (kv_heads, width),
            "o": (width, heads),
            "gate": (self.ffn_size, width),
            "up": (self.ffn_size, width),
            "down": (width, self.ffn_size),
        }
        biased = "qkv" * self.qkv_bias, "o" * self.o_bias, ("gate", "up", "down") if self.mlp_bias else ()
        found = {"attn_norm": norm, "ffn_norm": norm}
        for name, (outputs, inputs) in matrices.items():
            summed = name in ("o", "down")
            found[name] = WeightSpec((outputs, inputs), "columns" if summed else "rows")
            if any(name in names for names in biased):
                found[f"{name}_bias"] = WeightSpec((outputs,), None if summed else "rows")
        if self.qk_norm:
            found |= {"q_norm": head_norm, "k_norm": head_norm}
        if self.post_norms:
            found |= {"post_attn_norm": norm, "post_ffn_norm": norm}
        if self.attention_sinks:
            found["sinks"] = WeightSpec((self.num_heads,), "rows")
        return found

    @property
    def num_parameters(self) -> int:
        """Numbers in the weights, tied embeddings counted once."""
        return sum(math.prod(weight.shape) for weight in self.weights().values())

    def kv_layout(self, dtype: KvDtype = "f16", page_size: int = 16) -> KvLayout:
        """Pages for this model's layers.

        Layers that see equally far form a kind; a group is some layers of one kind. All groups draw equal pages from
        one pool, so all pages have room for the same number of layers: the largest number (fewest groups, fewest page
        tables) that leaves at most MAX_PAGE_WASTE of the places of each kind empty.
        """
        windows = [layer.window for layer in self.layers]
        counts = Counter(windows)
        per_page = max(n for n in range(1, max(counts.values()) + 1) if _waste(counts, n) <= MAX_PAGE_WASTE)
        groups: list[KvGroup] = []
        layer_group, layer_place = [0] * self.num_layers, [0] * self.num_layers
        for window in sorted(counts, key=lambda w: (w is not None, w or 0)):
            members = [layer for layer, w in enumerate(windows) if w == window]
            for start in range(0, len(members), per_page):
                for place, layer in enumerate(members[start : start + per_page]):
                    layer_group[layer], layer_place[layer] = len(groups), place
                kind = "full" if window is None else f"window-{window}"
                groups.append(KvGroup(f"{kind}.{start // per_page}", window))
        return KvLayout(
            groups=tuple(groups),
            layer_group=tuple(layer_group),
            layer_place=tuple(layer_place),
            layers_per_page=per_page,
            num_kv_heads=self.num_kv_heads,
            head_dim=self.head_dim,
            dtype=dtype,
            page_size=page_size,
        )


def _waste(counts: Counter[int | None], per_page: int) -> float:
    """The largest share, over the kinds of layers, of places that stay empty with `per_page` layers in a page."""
    return max(-(-count // per_page) * per_page / count - 1 for count in counts.values())
