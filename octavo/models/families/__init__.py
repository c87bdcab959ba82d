"""The families: one file each, found by the name a model's files give their architecture.

To add one, write its file and name it in FAMILIES; the table of what loads is made from this list.
"""

from __future__ import annotations

from collections.abc import Sequence

from octavo.base.errors import UnsupportedModelError
from octavo.models.families import gemma3, llama, mistral, qwen2, qwen3
from octavo.models.family import Family

FAMILIES: tuple[Family, ...] = (llama.FAMILY, mistral.FAMILY, qwen2.FAMILY, qwen3.FAMILY, gemma3.FAMILY)

_BY_HF = {name: family for family in FAMILIES for name in family.hf_architectures}
_BY_MODEL_TYPE = {name: family for family in FAMILIES for name in family.hf_model_types}
_BY_NAME = {family.name: family for family in FAMILIES}
_BY_GGUF = {name: family for family in FAMILIES for name in family.gguf_architectures}


def family_of_hf(architectures: Sequence[str], model_type: str | None) -> Family:
    """The family of the first of a config.json's `architectures`, or of its `model_type` where it lists none.

    Raises:
        UnsupportedModelError: the name is not known; lists those that are.
    """
    if architectures:
        return _found(_BY_HF, architectures[0], "config.json")
    return _found(_BY_MODEL_TYPE, model_type or "(none named)", "config.json")


def family_of_gguf(architecture: str) -> Family:
    """The family of a `general.architecture`. Raises UnsupportedModelError, listing what is supported."""
    return _found(_BY_GGUF, architecture, "GGUF")


def family_named(name: str) -> Family:
    """The family of a ModelSpec's `architecture`."""
    return _BY_NAME[name]


def _found(families: dict[str, Family], architecture: str, kind: str) -> Family:
    if architecture not in families:
        known = ", ".join(families)
        raise UnsupportedModelError(
            f"The architecture {architecture!r} is not supported. Supported in {kind}: {known}."
        )
    return families[architecture]
