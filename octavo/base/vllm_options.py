"""vLLM's engine options that have no counterpart here: the values that ask for nothing, and what to do about others.

So that a script or a command line written for vLLM runs unchanged where it means the same, and is refused by name,
with a hint, where it does not. Knows no engine. Source: vLLM's engine arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from octavo.base.errors import ConfigError

ANY = ("any value",)  # the option cannot change what is computed here
_FLAGS = (True, False, None)
_ONE_PROCESS = "One process computes a model; --threads sets its workers."
_FILE_DECIDES = "Weights run in the format of their file: choose another file."
_NO_ADAPTERS = "Adapters are not supported yet."
_TEXT_ONLY = "Only text goes in."

# name: (values that ask for nothing, what to do instead of another one)
VLLM_OPTIONS: dict[str, tuple[tuple[object, ...], str]] = {
    "async_scheduling": (_FLAGS, ""),
    "code_revision": ((None,), "Code of a model's repository is never run."),
    "compilation_config": ((None, 0, {}), "Nothing is compiled on a CPU."),
    "config_format": (("auto", "hf"), "A model folder has its config.json."),
    "convert": (("auto", "none"), "Models generate text; they are not converted."),
    "cpu_offload_gb": ((0,), "The whole model is in memory."),
    "data_parallel_size": ((1,), _ONE_PROCESS),
    "device": (("auto", "cpu"), "Use --backend."),
    "disable_custom_all_reduce": (_FLAGS, ""),
    "disable_log_requests": (_FLAGS, ""),
    "disable_log_stats": ((True,), "Numbers are at /metrics, not in the log."),
    "disable_sliding_window": ((False,), "Set --max-model-len to the window instead."),
    "distributed_executor_backend": ((None, "uni"), _ONE_PROCESS),
    "enable_chunked_prefill": ((True, None), "Prompts are always computed in chunks."),
    "enable_expert_parallel": ((False,), _ONE_PROCESS),
    "enable_log_requests": ((False,), "Requests are not logged in full."),
    "enable_lora": ((False, None), _NO_ADAPTERS),
    "enforce_eager": (_FLAGS, ""),
    "generation_config": (("auto",), "Give the sampling parameters with the request."),
    "guided_decoding_backend": ((None, "auto"), "Constrained output is not supported yet."),
    "hf_overrides": ((None, {}), "Change the model's config.json."),
    "hf_token": ((None,), "Set the environment variable HF_TOKEN."),
    "kv_transfer_config": ((None,), "KV pages stay on this machine."),
    "limit_mm_per_prompt": ((None, {}), _TEXT_ONLY),
    "load_format": (("auto", "safetensors", "hf"), "The files' kind is found by looking at them."),
    "max_lora_rank": ((None,), _NO_ADAPTERS),
    "max_loras": ((None,), _NO_ADAPTERS),
    "max_seq_len_to_capture": (ANY, ""),
    "mm_processor_kwargs": ((None, {}), _TEXT_ONLY),
    "num_gpu_blocks_override": ((None,), "Set --kv-memory."),
    "override_generation_config": ((None, {}), "Give the sampling parameters with the request."),
    "pipeline_parallel_size": ((1,), _ONE_PROCESS),
    "quantization": ((None,), _FILE_DECIDES),
    "rope_scaling": ((None, {}), "Change the model's config.json."),
    "rope_theta": ((None,), "Change the model's config.json."),
    "runner": (("auto", "generate"), "Models generate text."),
    "scheduling_policy": (("fcfs", "priority"), "Requests go by priority, then by arrival."),
    "skip_tokenizer_init": ((False,), "A tokenizer is always there."),
    "speculative_config": ((None,), "Speculation is not supported yet."),
    "swap_space": ((0, None), "Preempted requests are computed again, not swapped out."),
    "task": (("auto", "generate"), "Models generate text."),
    "tensor_parallel_size": ((1,), _ONE_PROCESS),
    "tokenizer_mode": (("auto", "hf"), "The tokenizer's kind is found by looking at its files."),
    "tokenizer_revision": ((None,), "Set --revision."),
    "trust_remote_code": (_FLAGS, ""),  # a permission: it is never made use of
}


_OTHER_NAMES = {"kv_cache_memory_bytes": "kv_memory_bytes"}


def without_vllm_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options under Octavo's names, without those of vLLM that ask for nothing here; None is "not given".

    Raises:
        ConfigError: one that asks for something Octavo does not do, by name.
    """
    kept = {}
    for name, value in options.items():
        if name not in VLLM_OPTIONS:
            if value is not None:
                kept[_OTHER_NAMES.get(name, name)] = value
            continue
        neutral, advice = VLLM_OPTIONS[name]
        if neutral is not ANY and not any(
            value == v and isinstance(value, bool) is isinstance(v, bool) for v in neutral
        ):
            raise ConfigError(f"{name}={value!r} is an option of vLLM that Octavo does not have. {advice}")
    return kept
