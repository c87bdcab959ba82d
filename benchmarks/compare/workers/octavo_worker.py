"""Octavo's side: `LLM.generate` in process, wall time of the whole call, Python and scheduler included."""

from __future__ import annotations

import timing

import octavo
from octavo import LLM, SamplingParams


def main() -> None:
    options = timing.settings()
    works = options["works"]
    llm = LLM(
        model=options["model"],
        threads=options["threads"],
        max_num_seqs=max(work["users"] for work in works),
        max_model_len=max(work["input_len"] + work["output_len"] + 1 for work in works),
        kv_cache_dtype=options.get("kv", "auto"),
        enable_prefix_caching=any(work.get("long") for work in works),
    )

    def generate(prompts: list[list[int]], output_len: int) -> None:
        sampling = SamplingParams(temperature=0, max_tokens=output_len, ignore_eos=True, detokenize=False)
        outputs = llm.generate(prompts, sampling, use_tqdm=False)
        lengths = {len(output.outputs[0].token_ids) for output in outputs}
        if lengths != {output_len}:
            raise RuntimeError(f"answers of {lengths} tokens where {output_len} were asked for")

    values = timing.measure(generate, llm.info.vocab_size, works, warm_each=False)
    timing.answer({"values": values, "says": f"{octavo.__version__}, {llm.info.fingerprint}"})


if __name__ == "__main__":
    main()
