"""vLLM's side: `LLM.generate` in process, prefix cache off."""

from __future__ import annotations

import time

import timing


def main() -> None:
    options = timing.settings()
    works = options["works"]
    begin = time.perf_counter()
    import vllm

    llm = vllm.LLM(
        model=options["model"],
        dtype="bfloat16",
        max_model_len=2048,
        max_num_seqs=max(work["users"] for work in works),
        enable_prefix_caching=False,
        disable_log_stats=True,
    )
    load_s = time.perf_counter() - begin

    def generate(prompts: list[list[int]], output_len: int) -> None:
        sampling = vllm.SamplingParams(temperature=0, max_tokens=output_len, ignore_eos=True, detokenize=False)
        outputs = llm.generate([{"prompt_token_ids": ids} for ids in prompts], sampling, use_tqdm=False)
        lengths = {len(output.outputs[0].token_ids) for output in outputs}
        if lengths != {output_len}:
            raise RuntimeError(f"answers of {lengths} tokens where {output_len} were asked for")

    values = timing.measure(generate, options["vocab_size"], works)
    timing.answer({"values": values, "says": vllm.__version__, "load_s": load_s})


if __name__ == "__main__":
    main()
