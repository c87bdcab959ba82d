"""Octavo's side of a comparison: one LLM in this process, driven by JSON lines on stdin (see `protocol.py`).

A measurement is two runs with fresh random prompts: one whose answers have a single token (prefill), one whole.
"""

from __future__ import annotations

import os
import random
import sys
import time
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - the sibling, run as a script

import protocol

from octavo import LLM, SamplingParams


class Octavo:
    def __init__(self) -> None:
        self._llm: LLM | None = None

    def open(self, *, model: str, threads: int, max_requests: int, length: int) -> dict[str, Any]:
        import octavo

        begin = time.perf_counter()
        self._llm = LLM(
            model=model, threads=threads, max_num_seqs=max_requests, max_model_len=length, enable_prefix_caching=False
        )
        info = self._llm.info
        return {
            "version": octavo.__version__,
            "load_s": time.perf_counter() - begin,
            "vocab_size": info.vocab_size,
            "settings": f"{info.fingerprint}, KV {info.details['kv_cache_dtype']}, {threads} threads, "
            "max_num_batched_tokens 512 (the default), prefix cache off",
        }

    def run(self, *, requests: int, input_len: int, output_len: int, seed: int) -> dict[str, float]:
        first = self._generate(requests, input_len, 1, 2 * seed)
        whole = self._generate(requests, input_len, output_len, 2 * seed + 1)
        return {"prefill_s": first, "decode_s": whole - first, "total_s": whole}

    def _generate(self, requests: int, input_len: int, output_len: int, seed: int) -> float:
        assert self._llm is not None, "open comes first"
        draw = random.Random(seed)
        vocab = self._llm.info.vocab_size
        prompts = [[draw.randrange(vocab) for _ in range(input_len)] for _ in range(requests)]
        sampling = SamplingParams(temperature=0, max_tokens=output_len, ignore_eos=True, detokenize=False)
        begin = time.perf_counter()
        outputs = self._llm.generate(prompts, sampling, use_tqdm=False)
        seconds = time.perf_counter() - begin
        lengths = {len(output.outputs[0].token_ids) for output in outputs}
        if lengths != {output_len}:
            raise RuntimeError(f"answers of {lengths} tokens where {output_len} were asked for")
        return seconds


if __name__ == "__main__":
    engine = Octavo()
    protocol.serve({"open": engine.open, "run": engine.run})
