"""An engine process over the fake model, as a program: the socket's number is its last argument.

`EngineArgs.model` says what it is to do: "fake", or one of the ways to go wrong.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from octavo.base.config import EngineArgs
from octavo.base.errors import ModelFormatError, ModelNotFoundError
from octavo.base.types import KvGroup, ModelInfo, StepResult
from octavo.engine.child import child_main
from octavo.engine.core import EngineCore
from octavo.executor.inline import InlineExecutor
from tests.engine.fake import FULL, FakeRunner, limits

LIMITS = limits(groups=(FULL, KvGroup("w", 6)), num_pages=100, max_model_len=3000, max_num_batched_tokens=16)


class TroubledRunner(FakeRunner):
    """Does what the model's name says in its fortieth step."""

    def __init__(self, model: str) -> None:
        super().__init__(LIMITS)
        self._model = model

    def finish(self, masks: Mapping[int, bytes]) -> StepResult:
        if len(self.plans) == 40:
            if self._model == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if self._model == "broken":
                raise ArithmeticError("a kernel is wrong")
            if self._model == "exits":
                os._exit(3)
        if self._model == "slow":
            time.sleep(0.02)
        return super().finish(masks)


def make_core(args: EngineArgs) -> tuple[EngineCore, ModelInfo]:
    if args.model == "absent":
        raise ModelNotFoundError("There is no model 'absent'. Give a path.")
    if args.model == "damaged":
        raise ModelFormatError("model.gguf", "is not a GGUF file")
    if args.model == "bug":
        raise ZeroDivisionError("a bug")
    if args.model == "dies":
        os._exit(7)
    if args.model == "loads long":
        time.sleep(3600)
    info = ModelInfo(args.model, "fake", 1, LIMITS.max_model_len, LIMITS.vocab_size, "f32", "x", {"pid": os.getpid()})
    return EngineCore(LIMITS, InlineExecutor(TroubledRunner(args.model))), info


if __name__ == "__main__":
    sys.exit(child_main(socket.socket(fileno=int(sys.argv[-1])), make_core))
