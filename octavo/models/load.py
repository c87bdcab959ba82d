"""From a model's files to a spec and loaded weights, one tensor at a time.

Owns the matching of canonical names against what the files hold: a missing, mis-shaped or unknown tensor is an error
that names it. Knows families only through their tables, and backends through their protocol.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from octavo.backends.ops import Backend, Weight
from octavo.base.errors import ModelFormatError, ModelNotFoundError, UnsupportedModelError
from octavo.models.config import GgufConfig, HfConfig
from octavo.models.families import family_named, family_of_gguf, family_of_hf
from octavo.models.family import Family, Stored
from octavo.models.spec import ModelSpec
from octavo.weights.gguf import GGUFFile
from octavo.weights.hub import ModelFiles
from octavo.weights.loader import HostTensor
from octavo.weights.tensor import TensorInfo, WeightSource

_NEVER_NEEDED = (
    r".*rotary_emb\.inv_freq",
    r".*\.masked_bias",
    r"rope_freqs\.weight",  # read with the spec
)
_SHOWN = 4  # tensors named in a message


# ---------------------------------------------------------------- the spec


def read_spec(files: ModelFiles, source: WeightSource | None = None) -> ModelSpec:
    """The specification of a resolved model; `source` is its opened files where the caller has them already.

    Raises:
        UnsupportedModelError: an architecture, activation, rope scaling or quantization that is not supported, by name.
        ModelFormatError: a description that is damaged or incomplete.
    """
    if files.kind != "gguf":
        return _read_hf_spec(files.path)
    if isinstance(source, GGUFFile):
        return _read_gguf_spec(source)
    with GGUFFile.open(files.path) as file:
        return _read_gguf_spec(file)


def _read_hf_spec(folder: Path) -> ModelSpec:
    path = folder / "config.json"
    values = read_json(path)
    if values is None:
        raise ModelNotFoundError(f"{folder} has no config.json; a checkpoint folder needs one beside its weights.")
    if quantization := values.get("quantization_config"):
        method = quantization.get("quant_method", "unnamed") if isinstance(quantization, dict) else quantization
        raise UnsupportedModelError(
            f"{path}: weights quantized by {method!r} are not supported; use the original checkpoint or a GGUF file."
        )
    config = HfConfig(values, path, read_json(folder / "generation_config.json") or {})
    return family_of_hf(config.architectures, config.get("model_type", None)).from_hf(config)


def _read_gguf_spec(file: GGUFFile) -> ModelSpec:
    shapes = {name: info.shape for name, info in file.tensors.items()}

    def tensor(name: str) -> npt.NDArray[np.float32]:
        return np.array(HostTensor.of(file, name).to_float32())

    config = GgufConfig(file.metadata, file.path, shapes, tensor)
    family = family_of_gguf(config.architecture)
    assert family.from_gguf is not None  # a family that is found by GGUF's name can read it
    return family.from_gguf(config)


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where there is no such file. Raises ModelFormatError for anything else."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ModelFormatError(path, f"cannot be read as JSON ({error})") from None
    if not isinstance(value, dict):
        raise ModelFormatError(path, "is not a JSON object")
    return value


# ---------------------------------------------------------------- the weights


@dataclass(frozen=True)
class _Placed:
    """A canonical weight, the tensor of the files that holds it, and what it is to become."""

    stored: Stored
    info: TensorInfo

    @property
    def loaded_info(self) -> TensorInfo:
        """The tensor as the backend gets it."""
        if self.stored.transform == "plus_one":
            return replace(self.info, format="F32", nbytes=4 * math.prod(self.info.shape))
        return self.info


def canonical_infos(spec: ModelSpec, source: WeightSource) -> dict[str, TensorInfo]:
    """What will be loaded, by canonical name; `TensorInfo.name` stays the name in the files.

    Raises:
        ModelFormatError: a tensor that the model needs is missing or has another shape than the spec says.
        UnsupportedModelError: the files hold tensors that would go unused, so that results would be wrong.
    """
    return {name: placed.loaded_info for name, placed in _place(spec, source).items()}


def load_weights(spec: ModelSpec, source: WeightSource, backend: Backend) -> dict[str, Weight]:
    """Packs every weight for `backend`, by canonical name, releasing each tensor's file pages once it is packed.

    Tied embeddings are one weight, "embed". Errors as `canonical_infos`, and those of `Backend.load`.
    """
    loaded: dict[str, Weight] = {}
    places = _place(spec, source)
    backend.reserve([placed.loaded_info for placed in places.values()])
    for name, placed in places.items():
        tensor = _transformed(HostTensor.of(source, placed.info.name), placed.stored, spec)
        loaded[name] = backend.load(tensor)
        tensor.release()
    return loaded


def weight_format(infos: Mapping[str, TensorInfo]) -> str:
    """The formats of the matrices, the most used first: "Q4_K + Q6_K"."""
    counts: Counter[str] = Counter()
    for info in infos.values():
        if len(info.shape) > 1:
            counts[info.format] += math.prod(info.shape)
    return " + ".join(name for name, _ in counts.most_common())


def _place(spec: ModelSpec, source: WeightSource) -> dict[str, _Placed]:
    """Finds every canonical weight and checks that nothing is left over."""
    family = family_named(spec.architecture)
    is_gguf = isinstance(source, GGUFFile)
    table = family.gguf_weights if is_gguf else family.hf_weights
    names = {} if is_gguf else _without_prefixes(family, source)
    path = source.paths[0]
    found: dict[str, _Placed] = {}
    for name, wanted in spec.weights().items():
        generic, layer = _split_layer(name)
        stored = table[generic]
        in_file = stored.name.format(layer)
        actual = names.get(in_file, in_file)
        if actual not in source.tensors:
            raise ModelFormatError(path, f"tensor {in_file!r} is missing")
        info = source.tensors[actual]
        if info.shape != wanted.shape:
            shapes = f"has the shape {info.shape}, but the configuration makes it {wanted.shape}"
            raise ModelFormatError(path, f"tensor {actual!r} {shapes}")
        found[name] = _Placed(stored, info)
    used = {placed.info.name for placed in found.values()}
    _refuse_left_over(spec, family, path, [name for name in source.tensors if name not in used])
    return found


def _split_layer(name: str) -> tuple[str, str]:
    """ "layers.3.q" -> ("layers.{}.q", "3")."""
    match = re.match(r"layers\.(\d+)\.", name)
    return (name, "") if match is None else (f"layers.{{}}.{name[match.end() :]}", match[1])


def _without_prefixes(family: Family, source: WeightSource) -> dict[str, str]:
    """The family's form of a name -> the name in the files, where the two differ."""
    renamed = {}
    for name in source.tensors:
        for prefix, plain in family.hf_prefixes.items():
            if name.startswith(prefix):
                renamed[plain + name.removeprefix(prefix)] = name
                break
    return renamed


def _refuse_left_over(spec: ModelSpec, family: Family, path: Path, names: list[str]) -> None:
    ignored = [re.compile(pattern) for pattern in (*_NEVER_NEEDED, *family.ignored)]
    if spec.tied_embeddings:
        head = family.hf_weights["head"].name
        ignored.append(re.compile(r"(.*\.)?" + re.escape(head)))  # some checkpoints store the tied head twice
    unknown = sorted(name for name in names if not any(pattern.fullmatch(name) for pattern in ignored))
    if unknown:
        shown = ", ".join(unknown[:_SHOWN]) + (", ..." if len(unknown) > _SHOWN else "")
        raise UnsupportedModelError(
            f"{path} holds {len(unknown)} tensors that a {spec.architecture} model of this configuration does not use "
            f"({shown}); running without them would give wrong results."
        )


def _transformed(tensor: HostTensor, stored: Stored, spec: ModelSpec) -> HostTensor:
    if stored.transform == "plus_one":
        values = tensor.to_float32() + np.float32(1)
        return replace(HostTensor.from_float32(tensor.info.name, values), releases=tensor.releases)
    if stored.transform == "pairs_to_halves":
        return tensor.rows_permuted(pairs_to_halves(tensor.info.shape[0], spec.head_dim))
    return tensor


def pairs_to_halves(num_rows: int, head_dim: int) -> npt.NDArray[np.int64]:
    """The stored row of each wanted row: in each head the file has rows 0, hd/2, 1, hd/2 + 1, ... of the original."""
    rows = np.arange(num_rows, dtype=np.int64).reshape(-1, head_dim // 2, 2)
    return rows.transpose(0, 2, 1).reshape(-1)
