"""Answer bodies of Ollama's API: lines of a stream, durations, descriptions of models, errors."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
from starlette.responses import Response

from octavo.base.errors import OctavoError
from octavo.base.types import Delta, ModelInfo
from octavo.server.http import json_response

NEVER = "9999-12-31T23:59:59Z"  # when a model that stays is unloaded


def error_body(error: OctavoError) -> dict[str, Any]:
    return {"error": str(error)}


def refuse(error: OctavoError) -> Response:
    return json_response(error_body(error), error.status)


def line(data: dict[str, Any]) -> bytes:
    """One object of a stream (NDJSON)."""
    return orjson.dumps(data) + b"\n"


def head(model: str) -> dict[str, Any]:
    return {"model": model, "created_at": datetime.now(UTC).isoformat().replace("+00:00", "Z")}


@dataclass
class Clock:
    """The durations of one answer, in nanoseconds. The model is loaded before the server listens."""

    began: int = field(default_factory=time.monotonic_ns)
    first: int | None = None

    def saw(self, delta: Delta) -> None:
        if self.first is None and delta.token_ids:
            self.first = time.monotonic_ns()

    def totals(self, last: Delta) -> dict[str, Any]:
        """The facts of a finished answer."""
        now = time.monotonic_ns()
        first = now if self.first is None else self.first
        return {
            "done": True,
            "done_reason": "length" if last.finish_reason == "length" else "stop",
            "total_duration": now - self.began,
            "load_duration": 0,
            "prompt_eval_count": last.num_prompt_tokens,
            "prompt_eval_duration": first - self.began,
            "eval_count": last.num_output_tokens,
            "eval_duration": now - first,
        }


def loaded(model: str) -> dict[str, Any]:
    """The answer to an empty request, which asks that the model be loaded: it is."""
    return head(model) | {"done": True, "done_reason": "load"}


def details(info: ModelInfo) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": str(info.details.get("file_format", "")),
        "family": info.architecture,
        "families": [info.architecture],
        "parameter_size": _short(info.num_parameters),
        "quantization_level": info.weight_format,
    }


def entry(info: ModelInfo, name: str, since: int) -> dict[str, Any]:
    """A model in a list."""
    return {
        "name": name,
        "model": name,
        "modified_at": datetime.fromtimestamp(since, UTC).isoformat().replace("+00:00", "Z"),
        "size": int(info.details.get("weight_bytes", 0)),
        "digest": info.fingerprint,
        "details": details(info),
    }


def _short(count: int) -> str:
    """A number of parameters as people write it: 1.2B, 135M."""
    for unit, scale in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if count >= scale:
            value = count / scale
            return f"{value:.1f}{unit}" if value < 10 else f"{value:.0f}{unit}"
    return str(count)
