"""A model's own sampling defaults, by SamplingParams field, from the raw fields of generation_config.json or GGUF.

Values that Octavo's ranges do not allow are left out with a warning. Does not apply anything.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from octavo.base.errors import InvalidRequestError
from octavo.base.sampling import SamplingParams

_LOG = logging.getLogger(__name__)

_FIELDS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "max_new_tokens": "max_tokens",
}


def sampling_defaults(generation: Mapping[str, Any]) -> dict[str, Any]:
    """SamplingParams field -> the value that the model's authors recommend, for `TextAssets.generation`."""
    found: dict[str, Any] = {}
    for key, name in _FIELDS.items():
        value = generation.get(key)
        if value is None:
            continue
        try:
            checked = SamplingParams(**{name: value})
        except InvalidRequestError as error:
            _LOG.warning("The model recommends %s = %r, which is left out: %s", key, value, error)
            continue
        found[name] = getattr(checked, name)
    return found
