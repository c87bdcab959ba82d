"""transformers' side: `generate` one request after the other, in batches, or `generate_batch` (continuous batching).

`mode` is `one`, `batch` or `continuous`. One by one is timed over `users` requests too, each a call of its own.
"""

from __future__ import annotations

import timing
import torch
import transformers


def main() -> None:
    options = timing.settings()
    torch.set_num_threads(options["threads"])
    model = transformers.AutoModelForCausalLM.from_pretrained(options["model"], dtype=torch.bfloat16)
    model.eval()
    mode, pad = options["mode"], 0

    def generate(prompts: list[list[int]], output_len: int) -> None:
        if mode == "continuous":
            config = transformers.GenerationConfig(
                max_new_tokens=output_len, min_new_tokens=output_len, do_sample=False, eos_token_id=-1, pad_token_id=pad
            )
            outputs = model.generate_batch(inputs=prompts, generation_config=config, progress_bar=False)
            lengths = {len(output.generated_tokens) for output in outputs.values()}
        else:
            lengths = set()
            for part in [prompts] if mode == "batch" else [[prompt] for prompt in prompts]:
                ids = torch.tensor(part)
                tokens = model.generate(
                    ids, attention_mask=torch.ones_like(ids), max_new_tokens=output_len, min_new_tokens=output_len,
                    do_sample=False, pad_token_id=pad,
                )  # fmt: skip
                lengths.add(tokens.shape[1] - ids.shape[1])
        if lengths != {output_len}:
            raise RuntimeError(f"answers of {lengths} tokens where {output_len} were asked for")

    values = timing.measure(generate, model.config.vocab_size, options["works"])
    timing.answer({"values": values, "says": transformers.__version__})


if __name__ == "__main__":
    main()
