"""The demo model and stories260K with their matrices stored in any format: the same text through every kernel."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from octavo.backends.ops import F32, Backend, Weight
from octavo.base.config import EngineArgs
from octavo.models.load import load_weights, read_spec
from octavo.models.spec import KvDtype, ModelSpec
from octavo.text.model_text import ModelText
from octavo.weights.geometry import GEOMETRY, tensor_nbytes
from octavo.weights.hub import ModelFiles, find_files
from octavo.weights.loader import HostTensor, open_source
from octavo.weights.tensor import TensorInfo
from tests.models.harness import run_sequences
from tests.weights.formats.block_encoders import ENCODERS

DEMO = Path(__file__).parents[2] / "octavo" / "demo"


@dataclass(frozen=True)
class Reencoding:
    """A backend whose matrices are stored in `format` before they are loaded."""

    backend: Backend
    format: str

    def reserve(self, infos: Iterable[TensorInfo]) -> None:
        self.backend.reserve([self._reencoded(info) if len(info.shape) == 2 else info for info in infos])

    def _reencoded(self, info: TensorInfo) -> TensorInfo:
        return replace(info, format=self.format, nbytes=tensor_nbytes(self.format, info.shape))

    def load(self, tensor: HostTensor) -> Weight:
        info = tensor.info
        if len(info.shape) == 2:
            blocks = tensor.to_float32().reshape(-1, GEOMETRY[self.format].length)
            raw = ENCODERS[self.format](blocks).reshape(info.shape[0], -1)
            tensor = HostTensor(self._reencoded(info), (raw,))
        return self.backend.load(tensor)


@dataclass(frozen=True)
class Model:
    """A model on a backend, its matrices in one format."""

    backend: Backend
    spec: ModelSpec
    weights: Mapping[str, Weight]

    def logits(self, sequences: Sequence[Sequence[int]], *, chunk: int = 512, kv_dtype: KvDtype = "f32") -> list[F32]:
        """As `run_sequences`."""
        return run_sequences(self.backend, self.spec, self.weights, sequences, chunk=chunk, kv_dtype=kv_dtype)

    def nats(self, texts: Sequence[Text], *, kv_dtype: KvDtype = "f32") -> npt.NDArray[np.float64]:
        """-log p of every token of every text after its head."""
        found = []
        for text, logits in zip(texts, self.logits([t.ids for t in texts], kv_dtype=kv_dtype), strict=True):
            used = logits[text.head - 1 : -1].astype(np.float64)
            used -= used.max(axis=-1, keepdims=True)
            wanted = used[np.arange(len(used)), text.ids[text.head :]]
            found.append(np.log(np.exp(used).sum(axis=-1)) - wanted)
        return np.concatenate(found)


@dataclass(frozen=True)
class Text:
    """Token ids; those from `head` on count."""

    ids: tuple[int, ...]
    head: int


def load(path: Path, backend: Backend, format: str) -> Model:
    """A GGUF file or a checkpoint folder; its matrices become `format`."""
    files = ModelFiles(path.name, "gguf" if path.suffix == ".gguf" else "hf", path)
    spec = read_spec(files)
    source = open_source(files)
    try:
        loader: Any = Reencoding(backend, format)
        return Model(backend, spec, load_weights(spec, source, loader))
    finally:
        source.close()


def demo(backend: Backend, format: str) -> Model:
    return load(DEMO / "octavo-demo.gguf", backend, format)


def demo_texts(count: int) -> list[Text]:
    """Conversations of the demo model's own questions, whose answers count (it has learnt nothing of the rest)."""
    args = EngineArgs()
    text = ModelText(args, find_files(args))
    rows = [json.loads(line) for line in (DEMO / "questions.jsonl").read_text("utf-8").splitlines()]
    found = []
    for row in rows[:: len(rows) // count][:count]:
        head = text.encode_rendered(text.render(row["messages"]))
        found.append(Text((*head, *text.tokenizer.encode(row["expected"])), len(head)))
    return found
