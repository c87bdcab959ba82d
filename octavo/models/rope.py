"""Rotary embedding: the scaling rules, from a base and a scaling record to the frequencies of a RopeSpec.

The record is a mapping in the words of Hugging Face configurations (`rope_type`, `factor`, ...). An unknown rule is
refused by name. Knows neither configurations nor positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from octavo.backends.ops import RopeSpec
from octavo.base.errors import UnsupportedModelError

Scaling = Mapping[str, Any]
Frequencies = list[float]


def make_rope(dim: int, base: float, scaling: Scaling | None = None, *, max_position: int = 0) -> RopeSpec:
    """The rotation of `dim` components with frequencies base ** (-2i / dim), scaled.

    `max_position` stands in for a missing `original_max_position_embeddings`.

    Raises:
        UnsupportedModelError: a rule that is not known, by name; a parameter of a rule missing or not a number.
    """
    if dim <= 0 or dim % 2:
        raise UnsupportedModelError(f"Rotary embedding over {dim} components: the number must be even and positive.")
    inv_freq = [base ** (-2 * i / dim) for i in range(dim // 2)]
    kind = rope_type(scaling)
    if kind not in RULES:
        known = ", ".join(sorted(RULES))
        raise UnsupportedModelError(f"The rope scaling {kind!r} is not supported. Known are: {known}.")
    reader = _Parameters(kind, {"max_position_embeddings": max_position or None, **(scaling or {})})
    return RULES[kind](inv_freq, base, reader)


def rope_type(scaling: Scaling | None) -> str:
    """The name of a scaling record's rule; "default" where there is none."""
    if not scaling:
        return "default"
    return str(scaling.get("rope_type") or scaling.get("type") or "default")


class _Parameters:
    """Reads one rule's numbers."""

    def __init__(self, kind: str, values: Scaling) -> None:
        self._kind = kind
        self._values = values

    def get(self, name: str, default: float | None = None) -> float:
        value = self._values.get(name)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UnsupportedModelError(f"The rope scaling {self._kind!r} needs a number {name}, got {value!r}.")
        return float(value)

    def positive(self, name: str, default: float | None = None) -> float:
        value = self.get(name, default)
        if not (value > 0 and math.isfinite(value)):
            raise UnsupportedModelError(f"The rope scaling {self._kind!r} has {name} = {value}; it must be positive.")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        value = self._values.get(name)
        return default if value is None else bool(value)

    def has(self, name: str) -> bool:
        return bool(self._values.get(name))

    @property
    def original_context(self) -> float:
        name = "original_max_position_embeddings"
        return self.positive(name if self.has(name) else "max_position_embeddings")


def _unscaled(inv_freq: Frequencies, base: float, scaling: _Parameters) -> RopeSpec:
    return RopeSpec(tuple(inv_freq))


def _linear(inv_freq: Frequencies, base: float, scaling: _Parameters) -> RopeSpec:
    """All positions shrink by one factor. Source: Chen et al. 2023, arXiv:2306.15595."""
    factor = scaling.positive("factor")
    return RopeSpec(tuple(f / factor for f in inv_freq))


def _llama3(inv_freq: Frequencies, base: float, scaling: _Parameters) -> RopeSpec:
    """Long waves shrink, short ones stay, those between are blended. Source: the Llama 3.1 reference code."""
    factor, context = scaling.positive("factor"), scaling.original_context
    low, high = scaling.positive("low_freq_factor"), scaling.positive("high_freq_factor")
    scaled = []
    for f in inv_freq:
        waves = context * f / (2 * math.pi)  # full turns within the original context
        if waves < low:
            scaled.append(f / factor)
        elif waves > high:
            scaled.append(f)
        else:
            keep = (waves - low) / (high - low)
            scaled.append((1 - keep) * f / factor + keep * f)
    return RopeSpec(tuple(scaled))


def _yarn(inv_freq: Frequencies, base: float, scaling: _Parameters) -> RopeSpec:
    """Interpolation by parts, with a temperature on attention. Source: Peng et al. 2023, arXiv:2309.00071."""
    context = scaling.original_context
    factor = scaling.positive("factor", scaling.positive("max_position_embeddings", context) / context)
    dim = 2 * len(inv_freq)

    def turning_point(turns: float) -> float:
        return dim * math.log(context / (turns * 2 * math.pi)) / (2 * math.log(base))

    low = turning_point(scaling.positive("beta_fast", 32.0))
    high = turning_point(scaling.positive("beta_slow", 1.0))
    if scaling.flag("truncate", default=True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    width = high - low or 0.001
    scaled = []
    for i, f in enumerate(inv_freq):
        shrink = min(max((i - low) / width, 0.0), 1.0)
        scaled.append(f / factor * shrink + f * (1 - shrink))
    return RopeSpec(tuple(scaled), _yarn_attention_factor(factor, scaling))


def _yarn_attention_factor(factor: float, scaling: _Parameters) -> float:
    def mscale(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    if scaling.has("attention_factor"):
        return scaling.positive("attention_factor")
    if scaling.has("mscale") and scaling.has("mscale_all_dim"):
        return mscale(scaling.get("mscale")) / mscale(scaling.get("mscale_all_dim"))
    return mscale(1.0)


RULES: Mapping[str, Callable[[Frequencies, float, _Parameters], RopeSpec]] = {
    "default": _unscaled,
    "none": _unscaled,
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
    # Dynamic scaling changes nothing up to max_position_embeddings, and contexts end there.
    "dynamic": _unscaled,
}
"""Rule by name."""
