"""llama.cpp's side of a comparison, over llama-cpp-python's low-level interface; driven by JSON lines on stdin.

Runs in an environment of its own, without Octavo. All requests are sequences of one context: their prompts go in
batches of up to 2048 tokens, then every decode step is one batch with a token of each sequence. Only the time inside
llama_decode is counted; choosing the next tokens (greedy, from the logits) is not.
"""

from __future__ import annotations

import ctypes
import os
import random
import sys
import time
from typing import Any

import llama_cpp
import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - the sibling, run as a script

import protocol

MAX_BATCH = 2048  # tokens of one llama_decode; it cuts them into pieces of PIECE
PIECE = 512


@llama_cpp.llama_log_callback
def _silent(_level: int, _text: bytes, _user: ctypes.c_void_p) -> None:
    """llama.cpp reports every context it makes."""


class LlamaCpp:
    def __init__(self) -> None:
        llama_cpp.llama_log_set(_silent, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self._model: Any = None
        self._threads = 0
        self._vocab = 0
        self._context: Any = None
        self._context_key: tuple[int, int, bool, bool] | None = None
        self._batch = llama_cpp.llama_batch_init(MAX_BATCH, 0, 1)

    def open(self, *, model: str, threads: int, max_requests: int, length: int) -> dict[str, Any]:
        del max_requests, length  # a context is made for each number of requests
        begin = time.perf_counter()
        params = llama_cpp.llama_model_default_params()
        params.n_gpu_layers = 0
        self._model = llama_cpp.llama_model_load_from_file(model.encode(), params)
        if not self._model:
            raise RuntimeError(f"llama.cpp cannot load {model}")
        self._threads = threads
        self._vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))
        system = llama_cpp.llama_print_system_info().decode().strip(" |")
        return {
            "version": f"llama-cpp-python {llama_cpp.__version__}",
            "load_s": time.perf_counter() - begin,
            "vocab_size": self._vocab,
            "settings": f"{system}; KV f16, {threads} threads, n_batch {MAX_BATCH}, n_ubatch {PIECE}",
        }

    def run(
        self, *, requests: int, input_len: int, output_len: int, seed: int, flash: bool, unified: bool
    ) -> dict[str, float]:
        context = self._fresh_context(requests, input_len + output_len, flash, unified)
        draw = random.Random(seed)
        prompts = [[draw.randrange(self._vocab) for _ in range(input_len)] for _ in range(requests)]
        prefill_s, tokens = self._prefill(context, prompts)
        decode_s = 0.0
        for step in range(output_len - 1):
            entries = [(tokens[s], input_len + step, s, True) for s in range(requests)]
            seconds, tokens = self._decode(context, entries)
            decode_s += seconds
        return {"prefill_s": prefill_s, "decode_s": decode_s, "total_s": prefill_s + decode_s}

    def _prefill(self, context: Any, prompts: list[list[int]]) -> tuple[float, list[int]]:
        last = len(prompts[0]) - 1
        entries = [(token, at, s, at == last) for s, prompt in enumerate(prompts) for at, token in enumerate(prompt)]
        total, tokens = 0.0, []
        for start in range(0, len(entries), MAX_BATCH):
            seconds, chosen = self._decode(context, entries[start : start + MAX_BATCH])
            total += seconds
            tokens += chosen
        return total, tokens

    def _decode(self, context: Any, entries: list[tuple[int, int, int, bool]]) -> tuple[float, list[int]]:
        batch = self._batch
        batch.n_tokens = len(entries)
        for i, (token, position, sequence, wants_logits) in enumerate(entries):
            batch.token[i] = token
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = sequence
            batch.logits[i] = wants_logits
        begin = time.perf_counter()
        code = llama_cpp.llama_decode(context, batch)
        llama_cpp.llama_synchronize(context)
        seconds = time.perf_counter() - begin
        if code != 0:
            raise RuntimeError(f"llama_decode failed with {code}")
        wanted = sum(entry[3] for entry in entries)
        if not wanted:
            return seconds, []
        logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits(context), (wanted, self._vocab))
        return seconds, [int(token) for token in logits.argmax(axis=1)]

    def _fresh_context(self, requests: int, length: int, flash: bool, unified: bool) -> Any:
        key = (requests, length, flash, unified)
        if key != self._context_key:
            self._free_context()
            params = llama_cpp.llama_context_default_params()
            params.n_ctx = requests * -(-length // 256) * 256
            params.n_batch, params.n_ubatch, params.n_seq_max = MAX_BATCH, PIECE, requests
            params.n_threads = params.n_threads_batch = self._threads
            params.flash_attn_type = 1 if flash else 0
            params.kv_unified = unified
            params.no_perf = True
            self._context = llama_cpp.llama_init_from_model(self._model, params)
            if not self._context:
                raise RuntimeError("llama.cpp cannot make a context")
            self._context_key = key
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        return self._context

    def _free_context(self) -> None:
        if self._context is not None:
            llama_cpp.llama_free(self._context)
        self._context, self._context_key = None, None


if __name__ == "__main__":
    engine = LlamaCpp()
    protocol.serve({"open": engine.open, "run": engine.run})
