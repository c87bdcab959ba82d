"""A model's own sampling defaults, by SamplingParams field: from generation_config.json or GGUF metadata.

Values that Octavo's ranges do not allow are left out with a warning. Does not apply anything.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from octavo.base.errors import InvalidRequestError
from octavo.base.sampling import SamplingParams
from octavo.models.load import read_json
from octavo.weights.gguf import GGUFFile
from octavo.weights.hub import ModelFiles

_LOG = logging.getLogger(__name__)

HF_FIELDS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "max_new_tokens": "max_tokens",
}
GGUF_FIELDS = {
    "general.sampling.temp": "temperature",
    "general.sampling.top_p": "top_p",
    "general.sampling.top_k": "top_k",
    "general.sampling.min_p": "min_p",
    "general.sampling.penalty_repeat": "repetition_penalty",
}


def read_generation_defaults(files: ModelFiles) -> dict[str, Any]:
    """SamplingParams field -> the value that the model's authors recommend. Raises ModelFormatError for bad JSON."""
    if files.kind == "gguf":
        with GGUFFile.open(files.path) as file:
            return _chosen(files.name, file.metadata, GGUF_FIELDS)
    return _chosen(files.name, read_json(files.path / "generation_config.json") or {}, HF_FIELDS)


def _chosen(model: str, values: Mapping[str, Any], fields: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, name in fields.items():
        value = values.get(key)
        if value is None:
            continue
        try:
            checked = SamplingParams(**{name: value})
        except InvalidRequestError as error:
            _LOG.warning("%s recommends %s = %r, which is left out: %s", model, key, value, error)
            continue
        found[name] = getattr(checked, name)
    return found
