"""Where the two planes meet: loads a model and wires runner, executor and engine into a core.

The only module that imports both the engine and the runner's side. Runs in the caller's process for `LLM`, and in the
engine's own process (`octavo/engine_main.py`) for servers. Knows no text.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from octavo.base.config import EngineArgs
from octavo.base.errors import ConfigError
from octavo.base.types import ModelInfo
from octavo.engine.core import EngineCore
from octavo.executor.inline import InlineExecutor
from octavo.models.decoder import decoder_forward
from octavo.models.load import canonical_infos, load_weights, read_spec, weight_format
from octavo.runner.fingerprint import fingerprint, weights_digest
from octavo.runner.locking import check_lockable
from octavo.runner.memory import MemoryPlan, make_plan
from octavo.runner.runner import Runner, Stage
from octavo.weights.hub import ModelFiles, find_files
from octavo.weights.loader import open_source

if TYPE_CHECKING:
    from octavo.backends.ops import Backend, Forward, KvDtype, KvLayout
    from octavo.models.spec import ModelSpec
    from octavo.weights.tensor import TensorInfo, WeightSource


@dataclass(frozen=True)
class OpenModel:
    """A model's files, described and planned but not loaded."""

    files: ModelFiles
    spec: ModelSpec
    source: WeightSource
    infos: dict[str, TensorInfo]
    backend: Backend
    forward: Forward
    layout: KvLayout
    plan: MemoryPlan


@contextlib.contextmanager
def open_model(args: EngineArgs) -> Iterator[OpenModel]:
    """Everything up to the memory plan, and what the system would refuse of it. Closes the files; the backend is closed
    only if the block raises."""
    files = find_files(args)
    backend = make_backend(args)
    with contextlib.ExitStack() as on_error:
        on_error.callback(backend.close)
        with contextlib.closing(open_source(files)) as source:
            spec = read_spec(files, source)
            infos = canonical_infos(spec, source)
            layout = spec.kv_layout(_kv_dtype(args, infos), args.block_size)
            forward = decoder_forward(spec)
            plan = make_plan(args, backend, forward, infos, layout, spec.max_position, spec.vocab_size)
            if args.mlock:
                check_lockable(plan.weights_bytes + plan.kv_bytes)
            yield OpenModel(files, spec, source, infos, backend, forward, layout, plan)
        on_error.pop_all()


def plan_memory(args: EngineArgs) -> MemoryPlan:
    """The memory `args` will take, without loading weights."""
    with open_model(args) as model:
        model.backend.close()
        return model.plan


def build_core(args: EngineArgs) -> tuple[EngineCore, ModelInfo]:
    """Loads a model and wires its engine; also what may be said about it.

    Raises:
        ConfigError, MemoryPlanError, ModelError: as planning and loading find them.
    """
    with open_model(args) as model:
        plan, spec = model.plan, model.spec
        weights = load_weights(spec, model.source, model.backend)
        kv = model.backend.allocate_kv(model.layout, plan.num_pages)
        program = model.backend.build(model.forward, weights, kv, plan.program_limits())
        limits = plan.engine_limits(model.layout, spec.vocab_size, enable_prefix_caching=args.enable_prefix_caching)
        runner = Runner([Stage(model.backend, program, kv)], limits)
        core = EngineCore(limits, InlineExecutor(runner))
        numerics = f"{model.backend.numerics}-kv-{model.layout.dtype}"
        info = ModelInfo(
            name=args.served_model_name or args.model,
            architecture=spec.architecture,
            num_parameters=spec.num_parameters,
            max_model_len=plan.max_model_len,
            vocab_size=spec.vocab_size,
            weight_format=weight_format(model.infos),
            fingerprint=fingerprint(weights_digest(model.source), numerics),
            details={
                "kv_cache_dtype": model.layout.dtype,
                "backend": model.backend.name,
                "max_num_seqs": limits.max_num_seqs,
                "weight_bytes": plan.weights_bytes,
                "notes": plan.notes,
            },
        )
        return core, info


def make_backend(args: EngineArgs) -> Backend:
    """The backend that `args` asks for; `auto` is the C++ one."""
    if args.backend == "reference":
        if args.mlock:
            raise ConfigError("mlock is for the CPU backend: the reference reads weights from the mapped file.")
        if args.numa != "auto":
            raise ConfigError("numa is for the CPU backend: the reference has no workers to place.")
        if args.threads is not None:
            raise ConfigError("threads is for the CPU backend: the reference computes with NumPy, which has its own.")
        from octavo.backends.reference.backend import ReferenceBackend

        return ReferenceBackend()
    try:
        from octavo.backends.cpu.backend import CpuBackend
    except ImportError as error:
        raise ConfigError(
            f"The CPU kernels are not built ({error}). Install Octavo with `pip install .`, or use --backend reference."
        ) from error
    return CpuBackend(threads=args.threads, numa=args.numa, lock=args.mlock)


def _kv_dtype(args: EngineArgs, infos: dict[str, TensorInfo]) -> KvDtype:
    """As vLLM's `auto`: the type of the weights where they have one; beside quantized ones bfloat16 (decision 15)."""
    if args.kv_cache_dtype == "auto":
        main = weight_format(infos).split(" + ")[0]
        by_format: dict[str, KvDtype] = {"F32": "f32", "F16": "f16"}
        return by_format.get(main, "bf16")
    return cast("KvDtype", args.kv_cache_dtype)  # EngineArgs has checked it
