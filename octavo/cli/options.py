"""Engine options on the command line: EngineArgs' fields as flags, with vLLM's spelling and llama.cpp's short ones."""

from __future__ import annotations

import argparse
import json
import re

from octavo.base.config import BACKENDS, KV_DTYPES, NUMA, EngineArgs
from octavo.base.errors import ConfigError
from octavo.base.vllm_options import VLLM_OPTIONS, without_vllm_options

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_VLLM_DEST = "vllm_"
_AMOUNT = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([kmg]i?)?b?\s*$", re.IGNORECASE)


def amount(text: str) -> int:
    """A count with an optional unit: 4096, 8k, 2GiB (k, m, g are decimal; ki, mi, gi binary).

    Raises:
        argparse.ArgumentTypeError: anything else.
    """
    match = _AMOUNT.match(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number with an optional unit such as 8k or 2GiB")
    return int(float(match[1]) * _UNITS[(match[2] or "").lower()])


def length(text: str) -> int:
    """A number of tokens: as `amount`, with k meaning 1024 (a context of 8k is 8192)."""
    match = _AMOUNT.match(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of tokens such as 4096 or 8k")
    unit = (match[2] or "").lower()
    return int(float(match[1]) * _UNITS[unit if not unit or unit.endswith("i") else unit + "i"])


def add_model(parser: argparse.ArgumentParser) -> None:
    """The positional model and its --model form."""
    parser.add_argument(
        "model", nargs="?", metavar="MODEL",
        help="a folder, a GGUF file, an https URL of one, or org/name[:QUANT][@revision] (default: octavo-demo)",
    )  # fmt: skip
    parser.add_argument("--model", "-m", dest="model_option", metavar="MODEL", help="the same, as an option")


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Flags of EngineArgs. A default of None leaves the choice to EngineArgs."""
    add_model(parser)
    group = parser.add_argument_group("engine")
    option = group.add_argument
    option("--revision", help="branch, tag or commit at the Hub")
    option("--tokenizer", help="take the tokenizer from another folder or file")
    option("--download-dir", help="where downloads go (default: the Hugging Face cache)")
    option("--max-model-len", "--ctx-size", "-c", type=length, metavar="TOKENS",
           help="context window (default: the model's, or what fits)")  # fmt: skip
    option("--max-num-seqs", "--parallel", "-np", type=int, metavar="N", help="most sequences computed at once")
    option("--max-num-batched-tokens", type=length, metavar="TOKENS", help="most tokens of one step")
    option("--block-size", type=int, metavar="TOKENS", help="tokens per KV page (a multiple of 16)")
    option("--gpu-memory-utilization", type=float, metavar="SHARE",
           help="on a CPU: the share of free memory that KV pages may take")  # fmt: skip
    option("--kv-memory", "--kv-cache-memory-bytes", dest="kv_memory_bytes", type=amount, metavar="BYTES",
           help="memory for KV pages, e.g. 2GiB")  # fmt: skip
    option("--kv-cache-dtype", choices=KV_DTYPES, help="element of the KV pages")
    option("--dtype", help="only 'auto': weights run in the format of their file")
    option("--enable-prefix-caching", action=argparse.BooleanOptionalAction, default=None,
           help="keep and share KV pages of equal prefixes")  # fmt: skip
    option("--threads", "-t", type=int, metavar="N", help="worker threads (default: physical cores)")
    option("--mlock", action="store_true", default=None, help="keep weights and KV pages from being swapped out")
    option("--no-mmap", dest="mmap", action="store_false", default=None, help=argparse.SUPPRESS)  # always so
    option("--mmap", action="store_true", default=None, help=argparse.SUPPRESS)
    option("--numa", choices=NUMA, help="on machines with several memory nodes: where workers and weights go")
    option("--backend", choices=BACKENDS, help="how to run the forward")
    option("--seed", type=int, help="seed of requests that bring none (default: a fresh one each)")
    option("--chat-template", metavar="FILE", help="a Jinja chat template instead of the model's own")
    _add_vllm_options(parser)


_SHORT = {"tensor_parallel_size": "-tp", "pipeline_parallel_size": "-pp", "data_parallel_size": "-dp"}


def _add_vllm_options(parser: argparse.ArgumentParser) -> None:
    """vLLM's other flags, unlisted: `engine_args` accepts or refuses them by value."""
    for name, (neutral, _) in VLLM_OPTIONS.items():
        flags = ["--" + name.replace("_", "-"), *([_SHORT[name]] if name in _SHORT else [])]
        dest = _VLLM_DEST + name
        if any(isinstance(value, bool) for value in neutral):
            action = argparse.BooleanOptionalAction
            parser.add_argument(*flags, dest=dest, action=action, default=None, help=argparse.SUPPRESS)
        else:
            parser.add_argument(*flags, dest=dest, type=_value, default=None, help=argparse.SUPPRESS)


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None if text == "None" else text


def one_model(options: argparse.Namespace) -> str | None:
    """The model of `add_model`'s flags, if one is named. Raises ConfigError for two different ones."""
    positional, named = options.model, options.model_option
    if positional and named and positional != named:
        raise ConfigError(f"Two models are named: {positional} and {named}. Give one.")
    model: str | None = positional or named
    return model


def engine_args(options: argparse.Namespace, *, served_model_name: str | None = None) -> EngineArgs:
    """EngineArgs from parsed flags.

    Raises:
        ConfigError: a value out of its range, two different models, or an option of vLLM that is not done here.
    """
    if getattr(options, "mmap", None):
        raise ConfigError("--mmap is not done here: weights are packed into memory of their own. Leave it out.")
    if getattr(options, "mmap", None) is False and getattr(options, "backend", None) == "reference":
        raise ConfigError("--no-mmap is for the CPU backend: the reference reads weights from the mapped file.")
    model = one_model(options)
    fields = {
        name: getattr(options, name)
        for name in EngineArgs.__dataclass_fields__
        if name not in ("model", "served_model_name") and getattr(options, name, None) is not None
    }
    vllm = {name: getattr(options, _VLLM_DEST + name, None) for name in VLLM_OPTIONS}
    without_vllm_options({name: value for name, value in vllm.items() if value is not None})
    if model:
        fields["model"] = model
    return EngineArgs(served_model_name=served_model_name, **fields)


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    """The controls of an answer for `run` and `generate`."""
    group = parser.add_argument_group("sampling")
    option = group.add_argument
    option("--max-tokens", "-n", type=int, metavar="N", help="most tokens of an answer")
    option("--temperature", "--temp", type=float, help="0 takes the most likely token")
    option("--top-p", type=float)
    option("--top-k", type=int)
    option("--min-p", type=float)
    option("--repetition-penalty", "--repeat-penalty", type=float)
    option("--presence-penalty", type=float)
    option("--frequency-penalty", type=float)
    option("--sampling-seed", type=int, dest="sampling_seed", help="equal seeds give equal answers")
    option("--stop", action="append", metavar="TEXT", help="end the answer before this text (repeatable)")
    option("--ignore-eos", action="store_true", default=None, help="go on after the end-of-sequence token")


def sampling_fields(options: argparse.Namespace) -> dict[str, object]:
    """SamplingParams fields that were given as flags."""
    names = ("max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty",
             "frequency_penalty", "stop", "ignore_eos")  # fmt: skip
    fields = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.sampling_seed is not None:
        fields["seed"] = options.sampling_seed
    return fields
