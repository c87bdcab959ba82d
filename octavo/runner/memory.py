"""The memory plan: weights, KV pages and scratch are computed before anything is loaded.

Principle 6: memory is planned, not discovered. `make_plan` answers with numbers or refuses with numbers; `octavo plan`
prints what it returns and the server allocates just that. Knows backends only through their protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from octavo.backends.ops import Backend, Forward, KvLayout, ProgramLimits
from octavo.base.config import EngineArgs
from octavo.base.errors import ConfigError, MemoryPlanError
from octavo.base.pages import longest_alone, pages_alone
from octavo.base.types import EngineLimits, KvGroup
from octavo.weights.tensor import TensorInfo

MIN_MODEL_LEN = 256  # an automatic context shorter than this is refused instead
PROMPT_LOGIT_ROWS = 64  # of one step, beside one row for each sequence
DEFAULT_BATCHED_TOKENS = 512
GIB = 1 << 30
# What a server and its engine's process take beside the model: interpreters and libraries, and for each entry of the
# vocabulary the tokenizer's tables. Measured by benchmarks/memory.py.
PROCESS_BYTES = 72 << 20
ENTRY_BYTES = 400


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes by purpose and what they buy. `notes` are choices a user should know of, one sentence each."""

    weights_bytes: int
    kv_bytes_per_token: int
    page_bytes: int
    page_size: int
    num_pages: int
    scratch_bytes: int
    available_bytes: int
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    max_samples: int
    groups: tuple[KvGroup, ...]
    process_bytes: int = 0
    notes: tuple[str, ...] = ()

    @property
    def kv_bytes(self) -> int:
        return self.num_pages * self.page_bytes

    @property
    def model_bytes(self) -> int:
        """What is still to be allocated where the plan is made: the engine's process is running then."""
        return self.weights_bytes + self.kv_bytes + self.scratch_bytes

    @property
    def total_bytes(self) -> int:
        """Private memory of a server's processes once everything planned is in use."""
        return self.model_bytes + self.process_bytes

    @property
    def tokens_that_fit(self) -> int:
        """Tokens whose KV fits at once (every group keeping all of them: window groups make it more)."""
        return self.num_pages // len(self.groups) * self.page_size

    def users_at(self, length: int) -> int:
        """Sequences of `length` tokens that fit at once, sharing nothing; their windows keep what is in reach."""
        return min(self.num_pages // self.pages_of(length), self.max_num_seqs)

    def pages_of(self, length: int) -> int:
        """Pages that one sequence of `length` tokens needs."""
        return pages_alone(self.groups, self.page_size, length)

    def program_limits(self) -> ProgramLimits:
        return ProgramLimits(self.max_num_batched_tokens, self.max_num_seqs, self.max_samples, self.max_model_len)

    def engine_limits(self, layout: KvLayout, vocab_size: int, *, enable_prefix_caching: bool) -> EngineLimits:
        return EngineLimits(
            num_pages=self.num_pages,
            page_size=self.page_size,
            groups=layout.groups,
            max_model_len=self.max_model_len,
            max_num_seqs=self.max_num_seqs,
            max_num_batched_tokens=self.max_num_batched_tokens,
            vocab_size=vocab_size,
            max_samples=self.max_samples,
            enable_prefix_caching=enable_prefix_caching,
        )


def available_bytes() -> int:
    """Memory this process may still take: the least of the system's estimate and the limits of its cgroups."""
    meminfo = dict(
        line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines() if ":" in line
    ) if Path("/proc/meminfo").exists() else {}  # fmt: skip
    if "MemAvailable" in meminfo:
        system = int(meminfo["MemAvailable"].split()[0]) * 1024
    else:
        import os

        system = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return min([system, *_cgroup_headrooms()])


def _cgroup_headrooms() -> list[int]:
    rooms = []
    for root, limit, usage in _cgroup_files():
        try:
            most = (root / limit).read_text().strip()
            used = int((root / usage).read_text()) - _reclaimable(root)
        except (OSError, ValueError):
            continue
        if most.isdigit() and int(most) < 1 << 60:
            rooms.append(min(int(most), max(0, int(most) - used)))
    return rooms


def _reclaimable(group: Path) -> int:
    """Page cache that a cgroup is charged for and that gives way to other uses: a model's file, just downloaded, is
    not memory in use. Counted over the whole hierarchy (the `total_` fields of version 1)."""
    try:
        lines = (group / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    fields = dict(line.split(" ", 1) for line in lines if " " in line)
    names = ("active_file", "inactive_file")
    return sum(int(fields.get(f"total_{name}", fields.get(name, 0))) for name in names)


def _cgroup_files() -> list[tuple[Path, str, str]]:
    """Directories of this process's memory cgroups, innermost first, with the names of limit and usage files."""
    found: list[tuple[Path, str, str]] = []
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mount, names = Path("/sys/fs/cgroup"), ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            mount, names = Path("/sys/fs/cgroup/memory"), ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        inner = mount / path.lstrip("/")
        for folder in (inner, *inner.parents):
            found.append((folder, *names))
            if folder == mount:
                break
    return found


def make_plan(
    args: EngineArgs,
    backend: Backend,
    forward: Forward,
    infos: Mapping[str, TensorInfo],
    layout: KvLayout,
    max_position: int,
    vocab_size: int,
    *,
    available: int | None = None,
) -> MemoryPlan:
    """Plans the memory of one model on one backend.

    Raises:
        MemoryPlanError: weights, scratch or the KV of one sequence do not fit; the message has the numbers.
        ConfigError: max_model_len beyond what the model was trained for.
    """
    if args.max_model_len is not None and args.max_model_len > max_position:
        raise ConfigError(
            f"max_model_len {args.max_model_len} is more than the {max_position} positions the model was made for."
        )
    free = available_bytes() if available is None else available
    weights = sum(backend.weight_bytes(info) for info in infos.values())
    tokens = args.max_num_batched_tokens or DEFAULT_BATCHED_TOKENS
    tokens = max(tokens, args.max_num_seqs)
    wanted_len = args.max_model_len or max_position
    model_len = args.max_model_len or _longest_affordable(args, layout, max_position, free - weights)
    samples = args.max_num_seqs + PROMPT_LOGIT_ROWS
    draft = MemoryPlan(weights, layout.bytes_per_token, layout.page_bytes, layout.page_size, 0, 0, free, model_len,
                       args.max_num_seqs, tokens, samples, layout.groups)  # fmt: skip
    scratch = backend.scratch_bytes(forward, infos, layout, draft.program_limits()) + _rows_bytes(draft, vocab_size)
    draft = replace(draft, scratch_bytes=scratch, process_bytes=PROCESS_BYTES + ENTRY_BYTES * vocab_size)
    if weights + scratch > free:
        raise MemoryPlanError(
            f"The weights take {_size(weights)} and scratch {_size(scratch)}, but only {_size(free)} of memory are "
            "free. Use a smaller quantization (for GGUF: Q4_K_M), lower --max-num-seqs, or free memory."
        )
    return _with_pages(args, draft, free - weights - scratch, wanted_len)


def _kv_budget(args: EngineArgs, free: int) -> int:
    """Bytes that KV pages may take of what is free."""
    return int(free * args.gpu_memory_utilization) if args.kv_memory_bytes is None else args.kv_memory_bytes


def _longest_affordable(args: EngineArgs, layout: KvLayout, max_position: int, free: int) -> int:
    """A bound of what an automatic context can become: scratch for longer sequences would never be used."""
    pages = max(0, _kv_budget(args, free)) // layout.page_bytes
    return min(max_position, max(MIN_MODEL_LEN, longest_alone(layout.groups, layout.page_size, pages, max_position)))


def _rows_bytes(draft: MemoryPlan, vocab_size: int) -> int:
    """What the runner keeps of its rows: their tokens (one drawn beyond the last that is computed), page tables, and a
    copy of the logits that controls are about to change."""
    tables = len(draft.groups) * -(-draft.max_model_len // draft.page_size)
    return 4 * draft.max_num_seqs * (draft.max_model_len + 1 + tables + vocab_size)


def _with_pages(args: EngineArgs, draft: MemoryPlan, free: int, wanted_len: int) -> MemoryPlan:
    notes = []
    if args.max_num_batched_tokens is not None and args.max_num_batched_tokens < draft.max_num_batched_tokens:
        notes.append(
            f"max_num_batched_tokens is {draft.max_num_batched_tokens} instead of {args.max_num_batched_tokens}: each "
            f"of max_num_seqs ({draft.max_num_seqs}) sequences needs one token of a step."
        )
    budget = _kv_budget(args, free)
    if args.kv_memory_bytes is not None:
        if budget > free:
            raise MemoryPlanError(
                f"kv_memory_bytes asks for {_size(budget)}, but after {_size(draft.weights_bytes)} of "
                f"weights and {_size(draft.scratch_bytes)} of scratch only {_size(free)} are free."
            )
        pages = budget // draft.page_bytes
    else:
        notes.append(
            f"gpu_memory_utilization {args.gpu_memory_utilization:g} is on a CPU the share of free memory "
            f"({_size(free)} after weights and scratch) that KV pages may take."
        )
        useful = draft.max_num_seqs * -(-draft.max_model_len // draft.page_size) * len(draft.groups)
        pages = min(budget // draft.page_bytes, useful)
    fits = longest_alone(draft.groups, draft.page_size, pages, draft.max_model_len)
    plan = replace(draft, num_pages=pages)
    if fits < wanted_len:
        if args.max_model_len is not None or fits < MIN_MODEL_LEN:
            need = draft.pages_of(wanted_len) * draft.page_bytes
            raise MemoryPlanError(
                f"One sequence of max_model_len {wanted_len} needs {_size(need)} of KV pages, but only "
                f"{_size(budget)} are planned for them ({fits} tokens). Lower --max-model-len, or raise --kv-memory "
                "or --gpu-memory-utilization."
            )
        notes.append(f"max_model_len is {fits} instead of the model's {wanted_len}: more does not fit.")
        plan = replace(plan, max_model_len=fits)
    return replace(plan, notes=tuple(notes))


def _size(count: int) -> str:
    """Bytes for people: binary units, three digits."""
    if count >= GIB:
        return f"{count / GIB:.2f} GiB"
    if count >= 1 << 20:
        return f"{count / (1 << 20):.1f} MiB"
    return f"{count / 1024:.1f} KiB"


def describe(plan: MemoryPlan, lengths: tuple[int, ...] = ()) -> str:
    """The plan as the lines `octavo plan` prints."""
    at = lengths or tuple(n for n in (512, 2048, 8192, 32768, 131072) if n <= plan.max_model_len)
    lines = [
        f"weights             {_size(plan.weights_bytes):>12}",
        f"KV pages            {_size(plan.kv_bytes):>12}   {plan.num_pages} pages of {plan.page_size} tokens, "
        f"{_size(plan.kv_bytes_per_token)} a token",
        f"scratch             {_size(plan.scratch_bytes):>12}",
        f"processes           {_size(plan.process_bytes):>12}   of a server and its engine, tokenizer included",
        f"total               {_size(plan.total_bytes):>12}   of {_size(plan.available_bytes)} free",
        f"max_model_len       {plan.max_model_len:>12}",
        f"max_num_seqs        {plan.max_num_seqs:>12}",
        f"tokens that fit     {plan.tokens_that_fit:>12}",
    ]
    lines += [f"users at {length:>6}     {plan.users_at(length):>12}" for length in at]
    lines += [f"note: {note}" for note in plan.notes]
    return "\n".join(lines)
