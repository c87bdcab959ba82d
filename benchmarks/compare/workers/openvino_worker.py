"""OpenVINO GenAI's side: one ContinuousBatchingPipeline, prompts as tensors of token ids."""

from __future__ import annotations

import numpy as np
import openvino
import openvino_genai
import timing


def main() -> None:
    options = timing.settings()
    works = options["works"]
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.cache_size = options.get("cache_gib", 2)
    scheduler.max_num_seqs = max(work["users"] for work in works)
    scheduler.enable_prefix_caching = False
    pipeline = openvino_genai.ContinuousBatchingPipeline(
        options["model"], scheduler, "CPU", {"INFERENCE_NUM_THREADS": options["threads"]}, {}
    )

    def generate(prompts: list[list[int]], output_len: int) -> None:
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = output_len
        config.min_new_tokens = output_len
        config.ignore_eos = True
        config.do_sample = False
        inputs = [openvino.Tensor(np.array([ids], np.int64)) for ids in prompts]
        outputs = pipeline.generate(inputs, [config] * len(inputs))
        lengths = {len(output.m_generation_ids[0]) for output in outputs}
        if lengths != {output_len}:
            raise RuntimeError(f"answers of {lengths} tokens where {output_len} were asked for")

    values = timing.measure(generate, options["vocab_size"], works)
    timing.answer({"values": values, "says": openvino_genai.__version__})


if __name__ == "__main__":
    main()
