"""What every offline worker does: fresh random prompts, whole calls timed, the answer as one line of JSON.

Imports nothing of any engine: it is loaded in all environments. Argument of the process: a JSON object with the
engine's settings and `works`, each {name, kind, users, input_len, output_len, repeat}.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any

Generate = Callable[[list[list[int]], int], None]
"""Answers all prompts (token ids) with exactly that many tokens each, all at once where the engine can."""


def settings() -> dict[str, Any]:
    return json.loads(sys.argv[1])


def measure(
    generate: Generate, vocab_size: int, works: list[dict[str, Any]], *, warm_each: bool = True
) -> dict[str, list[dict[str, float]]]:
    """Tokens per second of each work, `repeat` times; every call has prompts of its own. Engines that prepare for a
    shape when they first see it are warmed up for each work, others for the first."""
    results: dict[str, list[dict[str, float]]] = {}
    draw = random.Random(20)

    def seconds(work: dict[str, Any], output_len: int, prompts: list[list[int]] | None = None) -> float:
        prompts = prompts or fresh(work)
        begin = time.perf_counter()
        generate(prompts, output_len)
        return time.perf_counter() - begin

    def fresh(work: dict[str, Any]) -> list[list[int]]:
        return [[draw.randrange(3, vocab_size) for _ in range(work["input_len"])] for _ in range(work["users"])]

    for work in works:
        users, output_len = work["users"], work["output_len"]
        if not work.get("long") and (warm_each or work is works[0]):
            seconds(work, min(2, output_len))
        samples = results.setdefault(work["name"], [])
        if work.get("long"):  # one prompt, computed once and then found in the prefix cache
            prompts = fresh(work)
            first = seconds(work, 1, prompts)
            samples += [{"prompt_tok_s": work["input_len"] * users / first}]
        for _ in range(work["repeat"]):
            if work["kind"] == "prompt":
                samples.append({"tok_s": work["input_len"] * users / seconds(work, 1)})
            elif work["kind"] == "decode":
                same = prompts if work.get("long") else None
                first, whole = seconds(work, 1, same), seconds(work, output_len + 1, same)
                samples.append({"tok_s": users * output_len / (whole - first),
                                "prompt_tok_s": work["input_len"] * users / first})  # fmt: skip
            else:
                samples.append({"tok_s": users * output_len / seconds(work, output_len)})
    return results


def answer(values: dict[str, Any]) -> None:
    """The last line of standard output."""
    sys.stdout.flush()
    print("\n" + json.dumps(values), flush=True)
    os._exit(0)  # some engines take long to end, or hang; what they leave behind, the harness ends
