"""Octavo serves large language models. Public names are resolved on first use, so that importing costs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from octavo.base.config import AsyncEngineArgs, EngineArgs
    from octavo.base.outputs import CompletionOutput, RequestOutput
    from octavo.base.sampling import SamplingParams
    from octavo.llm import LLM, AsyncLLM

_HOMES = {
    "LLM": "octavo.llm",
    "AsyncLLM": "octavo.llm",
    "EngineArgs": "octavo.base.config",
    "AsyncEngineArgs": "octavo.base.config",
    "SamplingParams": "octavo.base.sampling",
    "RequestOutput": "octavo.base.outputs",
    "CompletionOutput": "octavo.base.outputs",
}
__all__ = [
    "LLM",
    "AsyncEngineArgs",
    "AsyncLLM",
    "CompletionOutput",
    "EngineArgs",
    "RequestOutput",
    "SamplingParams",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'octavo' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
