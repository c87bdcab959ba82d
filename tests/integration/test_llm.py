"""LLM and AsyncLLM as their users write them, over the demo model."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from octavo import LLM, AsyncEngineArgs, AsyncLLM, EngineArgs, SamplingParams
from octavo.base.errors import (
    ConfigError,
    EngineDeadError,
    InvalidRequestError,
    OctavoError,
    PromptTooLongError,
    UnsupportedError,
)

SMALL = {"kv_memory_bytes": 64 << 20}
GREEDY = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)
FRANCE = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with LLM(gpu_memory_utilization=0.85, max_num_batched_tokens=8192, max_num_seqs=256, block_size=16, **SMALL) as llm:
        yield llm


def texts(llm: LLM, prompts: Any, sampling: Any = GREEDY) -> list[str]:
    return [output.outputs[0].text for output in llm.generate(prompts, sampling, use_tqdm=False)]


def all_free(llm: LLM) -> bool:
    """Whether nothing is running and no page is held, by the pool's own account."""
    core = llm._client._core
    core.scheduler.check()
    stats = core.stats()
    return (stats.num_running, stats.num_waiting, stats.kv_pages_used, llm._frontend.num_open) == (0, 0, 0, 0)


# ---------------------------------------------------------------- prompts and outputs


def test_prompts_come_in_every_form(llm: LLM) -> None:
    ids = llm.get_tokenizer().encode("The capital")
    (text,) = texts(llm, "The capital")
    one: list[Any] = [
        ids, tuple(ids), np.array(ids), [np.int64(i) for i in ids], {"prompt": "The capital"},
        {"prompt_token_ids": ids}, {"prompt_token_ids": np.array(ids, np.int32)}, ["The capital"], [ids],
        [np.array(ids)], (p for p in ["The capital"]),
    ]  # fmt: skip
    for prompts in one:
        assert texts(llm, prompts) == [text], prompts
    assert texts(llm, ["The capital", ids, {"prompt": "The capital"}]) == [text] * 3
    assert texts(llm, []) == []


@pytest.mark.parametrize(
    "prompts", [None, 5, b"abc", ["a", 1], [1.5], [True], [[]], {"text": "a"}, [[1, "a"]], [-1], [10**9], ["a", None]]
)
def test_what_is_no_prompt_is_refused_before_anything_runs(llm: LLM, prompts: Any) -> None:
    with pytest.raises(InvalidRequestError):
        llm.generate(prompts, GREEDY, use_tqdm=False)
    assert all_free(llm)


def test_a_prompt_that_does_not_fit_is_refused(llm: LLM) -> None:
    with pytest.raises(PromptTooLongError, match="tokens"):
        llm.generate(["short", "long " * 4000], GREEDY, use_tqdm=False)
    assert all_free(llm)


def test_a_hopelessly_long_text_is_refused_without_tokenizing_it(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    assert llm.text._longest_token_bytes >= 2
    monkeypatch.setattr(llm.text, "tokenizer", None)
    for text in ("a" * 10_000_000, "word " * 2_000_000):
        with pytest.raises(PromptTooLongError, match="at least") as refused:
            llm.generate(text, GREEDY, use_tqdm=False)
        assert refused.value.num_tokens >= llm.info.max_model_len
    monkeypatch.undo()
    spaces = " " * 1_000_000  # a tokenizer may drop them: they are counted by it
    with contextlib.suppress(PromptTooLongError):
        llm.generate(spaces, GREEDY, use_tqdm=False)


def test_sampling_params_for_all_or_for_each(llm: LLM) -> None:
    both = llm.generate(["The", "A"], sampling_params=[GREEDY, GREEDY.clone(max_tokens=2)], use_tqdm=False)
    assert [len(o.outputs[0].token_ids) for o in both] == [8, 2]
    for wrong in ([GREEDY], [], {"temperature": 0}, [GREEDY, None]):
        with pytest.raises(InvalidRequestError, match="sampling_params"):
            llm.generate(["The", "A"], wrong, use_tqdm=False)  # type: ignore[arg-type]


def test_outputs_have_vllms_names(llm: LLM) -> None:
    sampling = SamplingParams(temperature=0, max_tokens=4, ignore_eos=True, logprobs=2, prompt_logprobs=1)
    (output,) = llm.generate("The capital", sampling, use_tqdm=False)
    best = output.outputs[0]
    assert output.prompt == "The capital"
    assert output.finished
    assert (best.index, best.finish_reason, best.stop_reason, len(best.token_ids)) == (0, "length", None, 4)
    assert best.logprobs is not None
    for token, entry in zip(best.token_ids, best.logprobs, strict=True):
        assert entry[token].rank == 1  # greedy
        assert len(entry) == 2
    assert "".join(entry[t].decoded_token or "" for t, entry in zip(best.token_ids, best.logprobs, strict=True)) == (
        best.text
    )
    chosen = sum(entry[t].logprob for t, entry in zip(best.token_ids, best.logprobs, strict=True))
    assert best.cumulative_logprob == pytest.approx(chosen)
    assert output.prompt_logprobs is not None
    assert len(output.prompt_logprobs) == len(output.prompt_token_ids)
    assert output.prompt_logprobs[0] is None
    for token, entry in zip(output.prompt_token_ids[1:], output.prompt_logprobs[1:], strict=True):
        assert entry is not None
        assert token in entry


def test_logprobs_of_all_tokens_sum_to_one(llm: LLM) -> None:
    (output,) = llm.generate("The", SamplingParams(max_tokens=1, logprobs=-1), use_tqdm=False)
    assert output.outputs[0].logprobs is not None
    entry = output.outputs[0].logprobs[0]
    assert len(entry) == llm.info.vocab_size
    assert sum(np.exp(e.logprob) for e in entry.values()) == pytest.approx(1, abs=1e-6)


def test_n_outputs_and_order(llm: LLM) -> None:
    sampling = SamplingParams(n=3, temperature=1.5, max_tokens=12, seed=1)
    outputs = llm.generate(["The", "A", "One"], sampling, use_tqdm=False)
    assert [o.prompt for o in outputs] == ["The", "A", "One"]
    assert [[c.index for c in o.outputs] for o in outputs] == [[0, 1, 2]] * 3
    assert len({c.text for c in outputs[0].outputs}) > 1


def test_chat_and_its_template_agree(llm: LLM) -> None:
    (output,) = llm.chat(FRANCE, GREEDY, use_tqdm=False)
    assert "Paris" in output.outputs[0].text
    rendered = llm.get_chat_template()(FRANCE)
    assert output.prompt == rendered
    assert FRANCE[0]["content"] in rendered
    two = llm.chat([FRANCE, FRANCE], sampling_params=GREEDY, use_tqdm=False)
    assert [o.outputs[0].text for o in two] == [output.outputs[0].text] * 2
    parts = [{"role": "user", "content": [{"type": "text", "text": FRANCE[0]["content"]}]}]
    assert llm.chat(parts, GREEDY, use_tqdm=False)[0].prompt == rendered
    old, new = ([{"role": role, "content": "Be brief."}, *FRANCE] for role in ("system", "developer"))
    assert llm.get_chat_template()(old) == llm.get_chat_template()(new)


@pytest.mark.parametrize(
    "messages", ["hi", [], [{"content": "a"}], [{"role": "user"}], [{"role": "user", "content": 5}]]
)
def test_what_is_no_conversation_is_refused(llm: LLM, messages: Any) -> None:
    with pytest.raises(InvalidRequestError):
        llm.chat(messages, GREEDY, use_tqdm=False)
    with pytest.raises(UnsupportedError, match="image_url"):
        llm.chat([{"role": "user", "content": [{"type": "image_url"}]}], GREEDY, use_tqdm=False)


def test_many_prompts_show_a_progress_bar(llm: LLM, capsys: pytest.CaptureFixture[str]) -> None:
    llm.generate(["The"] * 3, GREEDY)
    assert "3/3" in capsys.readouterr().err


# ---------------------------------------------------------------- interruptions


def test_an_interrupt_leaves_the_llm_usable(llm: LLM) -> None:
    before = texts(llm, "The capital")
    long = SamplingParams(max_tokens=1900, ignore_eos=True, n=4)
    timer = threading.Timer(0.3, signal.raise_signal, (signal.SIGINT,))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        while True:
            llm.generate(["The"] * 8, long, use_tqdm=False)
    timer.join()
    assert all_free(llm)
    assert texts(llm, "The capital") == before


def test_an_exception_between_tokens_leaves_the_llm_usable(llm: LLM, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(token_id: int) -> str:
        raise RuntimeError("in the middle")

    with monkeypatch.context() as patched:
        patched.setattr(llm.text, "shown", fail)
        with pytest.raises(RuntimeError, match="in the middle"):
            llm.generate(["The"] * 4, GREEDY.clone(logprobs=1), use_tqdm=False)
    assert all_free(llm)
    assert len(texts(llm, "The")) == 1


def test_one_answer_at_a_time(llm: LLM) -> None:
    stream = llm.stream_chat(FRANCE, GREEDY)
    first = next(stream)
    with pytest.raises(InvalidRequestError, match="another answer"):
        llm.generate("The", GREEDY, use_tqdm=False)
    assert first + "".join(stream) == llm.chat(FRANCE, GREEDY, use_tqdm=False)[0].outputs[0].text
    stream = llm.stream_chat(FRANCE, GREEDY)
    next(stream)
    stream.close()
    assert all_free(llm)


def test_models_live_side_by_side_and_close(llm: LLM) -> None:
    other = LLM(engine_args=AsyncEngineArgs(model="octavo-demo", max_num_seqs=4, **SMALL))
    assert texts(other, "The capital") == texts(llm, "The capital")
    other.close()
    other.close()
    with pytest.raises(EngineDeadError, match="closed"):
        other.generate("The", GREEDY, use_tqdm=False)
    assert len(texts(llm, "The capital")) == 1


def test_a_script_needs_no_main_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import asyncio\n"
        "from octavo import LLM, AsyncLLM, SamplingParams\n"
        "llm = LLM(kv_memory_bytes=1 << 24)\n"
        "text = llm.generate('The capital', SamplingParams(temperature=0), use_tqdm=False)[0].outputs[0].text\n"
        "async def stream():\n"
        "    engine = AsyncLLM(kv_memory_bytes=1 << 24)\n"
        "    async for output in engine.generate('The capital', SamplingParams(temperature=0), 'r'):\n"
        "        pass\n"
        "    return output.outputs[0].text\n"
        "assert asyncio.run(stream()) == text\n"
        "print('equal')\n"  # and no close() anywhere: the end of the script ends everything
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "equal\n", "")


# ---------------------------------------------------------------- options


def test_options_of_vllm_that_ask_for_nothing_are_accepted() -> None:
    with LLM(
        "octavo-demo", tensor_parallel_size=1, trust_remote_code=True, enforce_eager=True, quantization=None,
        dtype="auto", disable_log_stats=True, kv_cache_memory_bytes=64 << 20, max_model_len=None, seed=0,
    ) as llm:  # fmt: skip
        assert len(texts(llm, "The")) == 1
    assert AsyncEngineArgs(model="m", pipeline_parallel_size=1, swap_space=0) == AsyncEngineArgs(model="m")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tensor_parallel_size": 2}, "tensor_parallel_size=2"),
        ({"quantization": "awq"}, "format of their file"),
        ({"swap_space": 4}, "computed again"),
        ({"enable_chunked_prefill": False}, "chunks"),
        ({"dtype": "float16"}, "dtype"),
        ({"max_num_seq": 8}, "Did you mean max_num_seqs"),
        ({"nonsense": 8}, "nonsense"),
        ({"max_num_seqs": "8"}, "max_num_seqs must be an integer"),
        ({"max_num_seqs": 2.5}, "max_num_seqs must be an integer"),
        ({"max_model_len": "8k"}, "max_model_len must be an integer"),
        ({"max_model_len": 10**9}, "positions"),
        ({"block_size": 7}, "multiple of 16"),
        ({"gpu_memory_utilization": 1.5}, "gpu_memory_utilization"),
        ({"kv_memory_bytes": 100}, "KV pages"),
        ({"kv_memory_bytes": 1 << 60}, "free"),
        ({"model": ""}, "model"),
        ({"model": "no-such-model"}, "no-such-model"),
        ({"engine_args": EngineArgs(), "max_num_seqs": 4}, "not both"),
    ],
)
def test_options_that_cannot_be_met_are_refused_by_name(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OctavoError, match=words):
        LLM(**options)


def test_a_path_is_a_model(tmp_path: Path) -> None:
    import octavo

    demo = Path(octavo.__file__).parent / "demo" / "octavo-demo.gguf"
    with LLM(demo, **SMALL) as llm:  # type: ignore[arg-type]
        assert len(texts(llm, "The")) == 1
    with pytest.raises(ConfigError, match="Unknown option 'nonsense'"):
        AsyncEngineArgs(model=str(demo), nonsense=1)


# ---------------------------------------------------------------- AsyncLLM


def test_async_requests_stream_side_by_side(llm: LLM) -> None:
    async def one(engine: AsyncLLM, seed: int) -> list[str]:
        sampling = SamplingParams(temperature=1, seed=seed, max_tokens=30, ignore_eos=True)
        return [o.outputs[0].text async for o in engine.generate("The", sampling, f"r{seed}")]

    async def main(engine: AsyncLLM) -> list[list[str]]:
        return await asyncio.gather(*(one(engine, seed) for seed in range(8)))

    engine = AsyncLLM.from_engine_args(AsyncEngineArgs(model="octavo-demo", **SMALL))
    try:
        streams = asyncio.run(main(engine))
        for seed, stream in enumerate(streams):
            (alone,) = texts(llm, "The", SamplingParams(temperature=1, seed=seed, max_tokens=30, ignore_eos=True))
            assert stream[-1] == alone
            assert all(late.startswith(early) for early, late in itertools.pairwise(stream))
        asyncio.run(_leave_and_abort(engine))
    finally:
        engine.shutdown()
    with pytest.raises(EngineDeadError):
        asyncio.run(main(engine))


async def _leave_and_abort(engine: AsyncLLM) -> None:
    """In a second event loop: an abandoned stream and an aborted one both free the engine."""
    long = SamplingParams(max_tokens=1900, ignore_eos=True)
    async with contextlib.aclosing(engine.generate("The", long)) as stream:  # type: ignore[type-var]
        async for _ in stream:
            break
    outputs = []
    async for output in engine.generate("The", long, "mine"):
        outputs.append(output)
        if len(outputs) == 1:
            with pytest.raises(InvalidRequestError, match="mine"):
                await anext(engine.generate("The", long, "mine"))
            await engine.abort("mine")
    assert outputs[-1].finished
    assert outputs[-1].outputs[0].finish_reason == "abort"
    await engine.abort("unknown")
    while (await engine.engine.stats()).num_running:
        await asyncio.sleep(0.01)
    assert (await engine.engine.stats()).kv_pages_used == 0
