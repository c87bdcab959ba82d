"""EngineArgs: the options of an engine, with vLLM's names; one dataclass feeds Python, the command line and the docs.

Checks what can be checked without a model; what depends on the model is checked by the memory plan.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass, fields
from typing import Any

from octavo.base.errors import ConfigError
from octavo.base.vllm_options import without_vllm_options

BACKENDS = ("auto", "cpu", "reference")
KV_DTYPES = ("auto", "f32", "f16", "bf16", "int8")
NUMA = ("auto", "distribute", "isolate", "numactl")
MAX_THREADS = 1024


@dataclass(frozen=True, kw_only=True)
class EngineArgs:
    """How to load and run one model.

    `gpu_memory_utilization` bounds, on a CPU, the share of free memory that KV pages may take; `kv_memory_bytes`
    sets it directly. `block_size` is the unit of KV pages in tokens. `threads=None` takes the physical cores this
    process may use. `numa` says what is done on machines with several memory nodes: `distribute` (what `auto` does
    there) spreads workers and weights over all nodes, `isolate` keeps workers on one node, `numactl` leaves both to the
    caller's numactl.

    Raises:
        ConfigError: a value out of its range, naming it.
    """

    model: str = "octavo-demo"
    revision: str | None = None
    tokenizer: str | None = None
    served_model_name: str | None = None
    download_dir: str | None = None
    backend: str = "auto"
    dtype: str = "auto"
    kv_cache_dtype: str = "auto"
    max_model_len: int | None = None
    max_num_seqs: int = 256
    max_num_batched_tokens: int | None = None
    block_size: int = 16
    gpu_memory_utilization: float = 0.5
    kv_memory_bytes: int | None = None
    enable_prefix_caching: bool = True
    threads: int | None = None
    mlock: bool = False
    numa: str = "auto"
    seed: int | None = None
    chat_template: str | None = None

    def __post_init__(self) -> None:
        def check(ok: bool, name: str, rule: str) -> None:
            if not ok:
                raise ConfigError(f"{name} must be {rule}, got {getattr(self, name)!r}.")

        if isinstance(self.model, os.PathLike):
            object.__setattr__(self, "model", os.fspath(self.model))
        check(isinstance(self.model, str) and bool(self.model), "model", "a name or a path")
        check(self.backend in BACKENDS, "backend", f"one of {', '.join(BACKENDS)}")
        check(self.kv_cache_dtype in KV_DTYPES, "kv_cache_dtype", f"one of {', '.join(KV_DTYPES)}")
        check(self.numa in NUMA, "numa", f"one of {', '.join(NUMA)}")
        check(self.dtype == "auto", "dtype", "'auto' (weights run in the format of their file)")
        for name in ("max_model_len", "max_num_batched_tokens", "threads", "kv_memory_bytes", "seed"):
            value = getattr(self, name)
            check(value is None or _whole(value), name, "an integer")
            check(value is None or value >= 1 or name in ("seed", "threads"), name, "at least 1")
        check(self.threads is None or 1 <= self.threads <= MAX_THREADS, "threads", f"from 1 to {MAX_THREADS}")
        check(_whole(self.max_num_seqs) and self.max_num_seqs >= 1, "max_num_seqs", "an integer of at least 1")
        check(
            _whole(self.block_size) and self.block_size > 0 and self.block_size % 16 == 0,
            "block_size",
            "a positive multiple of 16",
        )
        share = self.gpu_memory_utilization
        check(isinstance(share, int | float) and 0 < share <= 1, "gpu_memory_utilization", "in (0, 1]")
        for name in ("enable_prefix_caching", "mlock"):
            check(isinstance(getattr(self, name), bool), name, "true or false")


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


class AsyncEngineArgs(EngineArgs):
    """The same options under the name vLLM's async engine uses; takes vLLM's other options where they ask for nothing.

    Raises:
        ConfigError: a value out of its range, or an option Octavo does not have, by name.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**_known(options))


def engine_args_of(model: str | None, engine: EngineArgs | None, options: dict[str, Any]) -> EngineArgs:
    """EngineArgs from keywords, or the given one; refuses both at once and unknown names.

    Raises:
        ConfigError: an option Octavo does not have, by name.
    """
    if engine is not None:
        if model is not None or options:
            raise ConfigError("Give either engine_args or single options, not both.")
        return engine
    if model is not None:
        options = {**options, "model": model}
    return EngineArgs(**_known(options))


def _known(options: dict[str, Any]) -> dict[str, Any]:
    options = without_vllm_options(options)
    known = sorted(f.name for f in fields(EngineArgs))
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"Did you mean {near[0]}?" if near else f"Octavo's options are: {', '.join(known)}."
            raise ConfigError(f"Unknown option {name!r}. {hint}")
    return options
