"""Typed reading of a model's own description: `HfConfig` over config.json, `GgufConfig` over GGUF metadata.

Owns the checks (a missing or ill-typed key is an error that names it) and the ways both kinds spell the same fact.
Does not know any family.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from octavo.backends.ops import Activation
from octavo.base.errors import ModelFormatError, UnsupportedModelError
from octavo.models.rope import Scaling

_MISSING = object()
_MAX_LAYERS = 4096  # no model has as many; a damaged file may claim more

HF_ACTIVATIONS: Mapping[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
}


class _Reader:
    """Typed getters over a mapping of facts; subclasses say how keys are spelled."""

    path: Path

    def _find(self, key: str) -> Any:
        raise NotImplementedError

    def _spelled(self, key: str) -> str:
        return key

    def get(self, key: str, default: Any = _MISSING) -> Any:
        """The value, or the default where it is absent or null. Raises ModelFormatError without either."""
        value = self._find(key)
        if value is not None:
            return value
        if default is _MISSING:
            raise ModelFormatError(self.path, f"{self._spelled(key)} is missing")
        return default

    def _wrong(self, key: str, value: object, what: str) -> ModelFormatError:
        return ModelFormatError(self.path, f"{self._spelled(key)} must be {what}, not {value!r}")

    def size(self, key: str, default: Any = _MISSING) -> int:
        """A positive whole number."""
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self._wrong(key, value, "a positive whole number")
        return value

    def layer_count(self, key: str) -> int:
        """A size that things are made for, one by one."""
        value = self.size(key)
        if value > _MAX_LAYERS:
            raise self._wrong(key, value, f"at most {_MAX_LAYERS}")
        return value

    def number(self, key: str, default: Any = _MISSING) -> float:
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key, value, "a number")
        return float(value)

    def optional_number(self, key: str) -> float | None:
        return None if self.get(key, None) is None else self.number(key)

    def optional_size(self, key: str) -> int | None:
        return None if self.get(key, None) is None else self.size(key)


@dataclass(frozen=True)
class HfConfig(_Reader):
    """config.json, with what generation_config.json says about it."""

    values: Mapping[str, Any]
    path: Path
    generation: Mapping[str, Any] = field(default_factory=dict)

    def _find(self, key: str) -> Any:
        return self.values.get(key)

    def flag(self, key: str, default: bool) -> bool:
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def section(self, key: str) -> HfConfig:
        """A nested configuration. What the section leaves out of the token ids, the outer one says."""
        inner = self.get(key)
        if not isinstance(inner, Mapping):
            raise self._wrong(key, inner, "an object")
        outer = {k: self.values[k] for k in ("bos_token_id", "eos_token_id") if k in self.values}
        return HfConfig({**inner, **outer}, self.path, self.generation)

    def with_defaults(self, **defaults: object) -> HfConfig:
        """A configuration whose absent keys have a family's own defaults."""
        return HfConfig({**defaults, **self.values}, self.path, self.generation)

    @property
    def architectures(self) -> list[str]:
        names = self.get("architectures", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise self._wrong("architectures", names, "a list of names")
        return names

    def activation(self, key: str = "hidden_act", default: str = "silu") -> Activation:
        name = self.get(key, default)
        if name not in HF_ACTIVATIONS:
            known = ", ".join(HF_ACTIVATIONS)
            raise UnsupportedModelError(
                f"{self.path}: the activation {key} = {name!r} is not supported. Known: {known}."
            )
        return HF_ACTIVATIONS[name]

    def rope(self, layer_type: str | None = None) -> tuple[float, Scaling]:
        """Base and scaling record, from `rope_parameters` (nested by layer type, or flat) or the older pair of keys."""
        scaling = self.get("rope_parameters", None) or self.get("rope_scaling", None) or {}
        if not isinstance(scaling, Mapping):
            raise self._wrong("rope_parameters", scaling, "an object")
        if layer_type is not None and isinstance(scaling.get(layer_type), Mapping):
            scaling = scaling[layer_type]
        base = scaling.get("rope_theta", self.get("rope_theta", 10000.0))
        if isinstance(base, bool) or not isinstance(base, int | float) or base <= 0:
            raise self._wrong("rope_theta", base, "a positive number")
        return float(base), scaling

    def eos_token_ids(self) -> tuple[int, ...]:
        """Every token that ends an answer, by either file; the configuration's first."""
        found: list[int] = []
        for source in (self.values, self.generation):
            ids = source.get("eos_token_id")
            ids = ids if isinstance(ids, list) else [] if ids is None else [ids]
            if not all(isinstance(i, int) and i >= 0 for i in ids):
                raise self._wrong("eos_token_id", ids, "a token id or a list of them")
            found += ids
        return tuple(dict.fromkeys(found))

    def bos_token_id(self) -> int | None:
        value = self.values.get("bos_token_id", self.generation.get("bos_token_id"))
        return value if isinstance(value, int) else None


@dataclass(frozen=True)
class GgufConfig(_Reader):
    """GGUF metadata; keys are given without the architecture's prefix. `shapes` are those of the file's tensors."""

    values: Mapping[str, Any]
    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    tensor: Callable[[str], npt.NDArray[np.float32]]

    @property
    def architecture(self) -> str:
        name = self.values.get("general.architecture")
        if not isinstance(name, str):
            raise ModelFormatError(self.path, "general.architecture is missing")
        return name

    def _spelled(self, key: str) -> str:
        return f"{self.architecture}.{key}"

    def _find(self, key: str) -> Any:
        return self.values.get(self._spelled(key))

    def size(self, key: str, default: Any = _MISSING) -> int:
        """A positive whole number, which may be stored once for every layer if all agree."""
        value = self.get(key, default)
        if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str) and len(value):
            if len({int(v) for v in value}) > 1:
                raise UnsupportedModelError(f"{self.path}: {self._spelled(key)} differs from layer to layer.")
            value = int(value[0])
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self._wrong(key, value, "a positive whole number")
        return value

    def rope(self) -> tuple[float, Scaling]:
        """Base and scaling record, in the words of `octavo.models.rope`."""
        base = self.number("rope.freq_base", 10000.0)
        kind = str(self.get("rope.scaling.type", "none"))
        factor = self.optional_number("rope.scaling.factor")
        if factor is None and (legacy := self.optional_number("rope.scale_linear")) is not None:
            kind, factor = "linear", legacy
        if kind == "none" or (kind == "linear" and not factor):
            return base, {}
        if self.number("rope.scaling.yarn_ext_factor", 1.0) not in (1.0, -1.0):  # -1: the usual mix
            raise UnsupportedModelError(
                f"{self.path}: {self._spelled('rope.scaling.yarn_ext_factor')} is not supported."
            )
        scaling = {
            "rope_type": kind,
            "factor": factor,
            "original_max_position_embeddings": self.optional_size("rope.scaling.original_context_length"),
            "beta_fast": self.optional_number("rope.scaling.yarn_beta_fast"),
            "beta_slow": self.optional_number("rope.scaling.yarn_beta_slow"),
        }
        return base, scaling

    def vocab_size(self) -> int:
        """Rows of the embedding."""
        shape = self.shapes.get("token_embd.weight")
        if shape is None or len(shape) != 2:
            raise ModelFormatError(self.path, "tensor 'token_embd.weight' is missing")
        return shape[0]

    def token_id(self, name: str) -> int | None:
        """tokenizer.ggml.NAME_token_id."""
        value = self.values.get(f"tokenizer.ggml.{name}_token_id")
        return None if value is None else int(value)

    def eos_token_ids(self) -> tuple[int, ...]:
        """The tokens that the file names as ends. What their texts say besides is the tokenizer's affair."""
        named = [self.token_id(name) for name in ("eos", "eot", "eom")]
        return tuple(dict.fromkeys(i for i in named if i is not None))
