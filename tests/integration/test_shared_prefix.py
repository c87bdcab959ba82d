"""Requests that share pages of a long prefix are computed together over them, with the bits they have alone."""

from __future__ import annotations

import random

import pytest

from octavo import LLM, SamplingParams
from octavo.base.outputs import RequestOutput

pytest.importorskip("octavo._kernels", reason="CPU BACKEND ABSENT: the extension octavo._kernels is not built")

PREFIX = 600  # tokens: two whole splits of attention and a part of one
CONTROLS = SamplingParams(temperature=0, max_tokens=6, logprobs=2, ignore_eos=True)


def facts(output: RequestOutput) -> list[object]:
    answer = output.outputs[0]
    assert answer.logprobs is not None
    return [answer.token_ids, [{i: entry.logprob for i, entry in step.items()} for step in answer.logprobs]]


@pytest.mark.parametrize("dtype", ["f32", "f16", "bf16", "int8"])
def test_a_shared_prefix_changes_no_bit(dtype: str) -> None:
    draw = random.Random(dtype)
    prefix = [draw.randrange(300) for _ in range(PREFIX)]
    prompts = [[*prefix[: PREFIX - 40 * (i % 3)], *(draw.randrange(300) for _ in range(3 + i))] for i in range(7)]
    options = {"kv_cache_dtype": dtype, "max_model_len": 768, "max_num_seqs": 8, "kv_memory_bytes": 1 << 26}
    with LLM("octavo-demo", enable_prefix_caching=False, **options) as llm:  # type: ignore[arg-type]
        alone = [facts(llm.generate([prompt], CONTROLS, use_tqdm=False)[0]) for prompt in prompts]
    with LLM("octavo-demo", **options) as llm:  # type: ignore[arg-type]
        llm.generate([prefix], SamplingParams(max_tokens=1), use_tqdm=False)
        together = llm.generate(prompts, CONTROLS, use_tqdm=False)
    assert all((output.num_cached_tokens or 0) >= 512 for output in together)
    assert [facts(output) for output in together] == alone
