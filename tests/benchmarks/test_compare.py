"""The comparison with other engines: limits, medians, verdicts, parsing, resuming, the page (no peer is needed)."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.compare import checks, client, limits, offline, probes, processes, report, runner, store
from benchmarks.compare.checks import Kept, Measured, Results, Sooner, Speed, Weighed
from benchmarks.compare.limits import Machine, Matrix, Workload
from benchmarks.compare.plan import Contender, Group, groups
from benchmarks.compare.rows import rows
from tools.make_model.shapes import SHAPES, Shape

MACHINE = Machine(bandwidth=100.0, int8=1000.0, bf16=500.0)
TOY = Shape("toy", hidden=8, layers=2, heads=2, kv_heads=1, ffn=16, vocab=32, context=64, rope_theta=1e4, head_dim=4)


# ---------------------------------------------------------------- limits


def test_a_step_takes_the_larger_of_bytes_and_operations_of_each_matrix() -> None:
    matrices = [Matrix(10, 10, 200.0, True), Matrix(10, 10, 50.0, False, is_head=True)]
    # one user: 200/100 s of bytes over 0.2 s of operations; 0.5 s of bytes over 0.4 s of operations
    # attention: 2 layers x 2 (k, v) x 4 values x 2 bytes x 10 tokens = 320 bytes, 3.2 s
    assert limits.decode_step_s(TOY, matrices, 1, 10, 2, MACHINE) == pytest.approx(2.0 + 0.5 + 3.2)
    # 20 users: 2 x 100 x 20 / 1000 = 4 s; 2 x 100 x 20 / 500 = 8 s; cache 64 s
    assert limits.decode_step_s(TOY, matrices, 20, 10, 2, MACHINE) == pytest.approx(4.0 + 8.0 + 64.0)


def test_a_prompt_passes_the_head_once() -> None:
    matrices = [Matrix(10, 10, 200.0, True), Matrix(10, 10, 50.0, True, is_head=True)]
    # inner: 2 x 100 x 30 / 1000 = 6 s; head: 0.5 s of bytes; attention: 4 x 2 x 2 x 4 x 30 x 31 / 2 = 29760 / 1000
    assert limits.prompt_s(TOY, matrices, 30, MACHINE) == pytest.approx(6.0 + 0.5 + 29.76)


def test_limits_are_tokens_a_second() -> None:
    matrices = [Matrix(10, 10, 200.0, True)]
    assert limits.limit(TOY, matrices, Workload("decode", 4, 8, 4), MACHINE) == pytest.approx(4 / (2.0 + 12.8))
    prompt = limits.prompt_s(TOY, matrices, 8, MACHINE)
    assert limits.limit(TOY, matrices, Workload("prompt", 1, 8, 1), MACHINE) == pytest.approx(8 / prompt)
    whole = 4 * prompt + 3 * limits.decode_step_s(TOY, matrices, 4, 10, 2, MACHINE)
    assert limits.limit(TOY, matrices, Workload("generate", 4, 8, 4), MACHINE) == pytest.approx(16 / whole)


def test_bytes_of_a_model_are_those_of_its_formats() -> None:
    shape = SHAPES["smollm2-135m"]
    eight = limits.matrices_of(shape, {}, "Q8_0")
    assert sum(m.rows * m.columns for m in eight) == 134_479_872  # all parameters but the norms
    assert sum(m.nbytes for m in eight) == 134_479_872 * 34 / 32
    mixed = limits.matrices_of(shape, {"model.embed_tokens.weight": "BF16"}, "INT8")
    assert [m.is_int8 for m in mixed if m.is_head] == [False]
    assert sum(m.nbytes for m in mixed) == 134_479_872 + 49152 * 576


# ---------------------------------------------------------------- medians and verdicts


def _sample(contender: str, work: str, values: list[dict[str, float]], foreign: float = 0.0) -> dict[str, Any]:
    return {"round": 0, "group": "g", "contender": contender, "foreign_share": foreign, "values": {work: values}}


def test_disturbed_samples_are_dropped_where_there_are_others() -> None:
    results = checks.results_of(
        [
            _sample("a x y", "decode-1", [{"tok_s": 10.0}, {"tok_s": 12.0}]),
            _sample("a x y", "decode-1", [{"tok_s": 14.0}]),
            _sample("a x y", "decode-1", [{"tok_s": 99.0}], foreign=0.2),
            _sample("b x y", "decode-1", [{"tok_s": 5.0}], foreign=0.2),
            {"round": 0, "group": "g", "contender": "c x y", "foreign_share": 0.0, "error": "no"},
        ],
        {},
    )
    assert results.points["g", "a x y", "decode-1"] == Measured({"tok_s": 12.0}, 3, True)
    assert results.points["g", "b x y", "decode-1"] == Measured({"tok_s": 5.0}, 1, False)
    assert ("g", "c x y", "decode-1") not in results.points


def _results(ours: float, theirs: float) -> Results:
    """One user of a 135M shape with one matrix of 1 MB: at most 100 tokens/s at 100 MB/s, the cache aside."""
    points = {("g", "octavo smollm2-135m F", "decode-1"): Measured({"tok_s": ours}, 3, True),
              ("g", "peer smollm2-135m F", "decode-1"): Measured({"tok_s": theirs}, 3, True)}  # fmt: skip
    cache_bytes = 2 * 30 * 3 * 64 * 2 * (1 + 128 / 2)
    machine = Machine(1e8 + cache_bytes * 100, 1e15, 1e15)
    nbytes = machine.bandwidth / 100 - cache_bytes
    return Results(points, {"g": machine}, {"smollm2-135m F": [Matrix(10, 10, nbytes, True)]})


def _speed(ratio: float | None, fraction: float | None = None) -> Speed:
    peers = (("g", "peer smollm2-135m F", "decode-1"),) if ratio else ()
    return Speed("w", "g", "octavo smollm2-135m F", "decode-1", peers, ratio, fraction)


def test_a_ratio_counts_up_to_85_percent_of_the_limit() -> None:
    line = _speed(1.5).judge(_results(60.0, 40.0))
    assert (line.ratio, line.fraction, line.met) == (pytest.approx(1.5), pytest.approx(0.6), True)
    assert _speed(1.5).judge(_results(59.0, 40.0)).met is False
    capped = _speed(1.5).judge(_results(86.0, 80.0))  # 120 would be beyond the limit
    assert capped.met is True and "capped" in capped.target
    assert _speed(1.5).judge(_results(84.0, 80.0)).met is False


def test_a_fraction_of_the_limit_stands_beside_the_ratio() -> None:
    assert _speed(1.0, 0.9).judge(_results(91.0, 80.0)).met is True
    assert _speed(1.0, 0.9).judge(_results(89.0, 80.0)).met is False
    assert _speed(None, 0.5).judge(_results(51.0, 80.0)).met is True


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    for _, listed in rows():
        for check in listed:
            assert check.judge(Results({}, {}, {})).met is None


def test_latency_share_and_memory() -> None:
    points = {
        ("g", "a", "start"): Measured({"seconds": 0.7}, 1, True),
        ("g", "b", "start"): Measured({"seconds": 1.4}, 1, True),
        ("g", "a", "quick"): Measured({"tok_s": 100.0}, 1, True),
        ("g", "a", "slow"): Measured({"tok_s": 45.0}, 1, True),
        ("g", "a", "memory"): Measured({"private_bytes": 1.1e9, "planned_weights_bytes": 6e8, "planned_kv_bytes": 4e8,
                                        "planned_total_bytes": 1.08e9}, 1, True),
    }  # fmt: skip
    results = Results(points, {}, {})
    peer = (("g", "b", "start"),)
    assert Sooner("w", "g", "a", "start", "seconds", peer, 2.0, 0.8).judge(results).met is True
    assert Sooner("w", "g", "a", "start", "seconds", peer, 2.1, 0.8).judge(results).met is False
    assert Sooner("w", "g", "a", "start", "seconds", peer, 2.0, 0.6).judge(results).met is False
    slow, quick = ("g", "a", "slow"), ("g", "a", "quick")
    assert Kept("w", slow, quick, 0.4, (slow, quick)).judge(results).met is True
    assert Kept("w", slow, quick, 0.5, (slow, quick)).judge(results).met is False
    assert Weighed("w", ("g", "a", "memory"), 150).judge(results).met is True
    assert Weighed("w", ("g", "a", "memory"), 50).judge(results).met is False


# ---------------------------------------------------------------- the plan and the table


def test_every_line_of_the_table_is_measured_by_some_group() -> None:
    measured = {(g.name, c.label, w) for g in groups() for c in g.contenders for w in c.works or g.works}
    measured |= {(g.name, c.label, "start") for g in groups() if g.served for c in g.contenders}
    wanted = set()
    for _, listed in rows():
        for check in listed:
            if isinstance(check, Kept):
                wanted |= {check.disturbed, check.undisturbed, *check.peer}
            elif isinstance(check, Weighed):
                wanted.add(check.key)
            else:
                wanted |= {(check.group, check.label, check.workload), *check.peers}
    assert wanted <= measured
    assert len({g.name for g in groups()}) == len(groups())


def test_samples_are_taken_once_and_disturbed_ones_again(tmp_path: Path) -> None:
    group = Group("g", ("decode-1",), ())
    file = tmp_path / "samples.jsonl"
    assert runner.wanting(store.load(file), 0, group, "a")
    store.append(file, _sample("a", "decode-1", [], foreign=0.5))
    assert runner.wanting(store.load(file), 0, group, "a")
    store.append(file, _sample("a", "decode-1", []))
    assert not runner.wanting(store.load(file), 0, group, "a")
    assert runner.wanting(store.load(file), 1, group, "a")
    assert runner.wanting(store.load(file), 0, group, "b")
    for _ in range(runner.TRIES):
        store.append(file, {"round": 0, "group": "g", "contender": "b", "foreign_share": 0.0, "error": "no"})
    assert not runner.wanting(store.load(file), 0, group, "b")


def test_a_cut_line_loses_only_itself(tmp_path: Path) -> None:
    file = tmp_path / "samples.jsonl"
    store.append(file, {"a": 1})
    file.write_text(file.read_text() + '{"b": ')
    assert store.load(file) == [{"a": 1}]
    store.append(file, {"c": 3})
    assert store.load(file) == [{"a": 1}, {"c": 3}]


def test_a_setting_is_kept_where_it_is_faster() -> None:
    samples: list[store.Sample] = []
    for extra, decode, prompt in (("", 10.0, 99.0), (" fa=0", 11.0, 50.0), (" repack=0", 9.0, 105.0)):
        values = {"decode-1": [{"tok_s": decode}], "prompt-512": [{"tok_s": prompt}]}
        samples.append({"group": "probe single smollm2-135m Q8_0", "contender": f"llama.cpp smollm2-135m Q8_0{extra}",
                        "foreign_share": 0.0, "values": values})  # fmt: skip
    best = probes.choose(samples)
    name = "single smollm2-135m Q8_0"
    assert best == {f"{name} decode": (("fa", "0"),), f"{name} prompt": (("repack", "0"),)}
    # attention follows the shape, repacking the format
    peer = Contender("llama.cpp", "smollm2-360m", "Q4_0")
    assert probes.settings_for(best, "single", peer, "decode") == (("fa", "0"),)
    assert probes.settings_for(best, "single", peer, "prompt") == ()
    assert probes.settings_for(best, "single", Contender("llama.cpp", "smollm2-135m", "Q8_0"), "prompt") == (
        ("repack", "0"),
    )
    assert probes.settings_for(best, "single", Contender("octavo", "smollm2-135m", "Q8_0"), "decode") == ()


# ---------------------------------------------------------------- what peers print, what clients see


def test_llama_cpps_tools_are_read() -> None:
    tests = [
        {"n_prompt": 512, "n_gen": 0, "samples_ts": [1.0, 2.0]},
        {"n_prompt": 0, "n_gen": 128, "samples_ts": [3.0]},
    ]
    assert offline.parse_bench(tests, ["decode-1", "prompt-512"]) == {
        "decode-1": [{"tok_s": 3.0}], "prompt-512": [{"tok_s": 1.0}, {"tok_s": 2.0}]
    }  # fmt: skip
    said = 'noise\n{"pl": 8, "speed_tg": 5.0, "speed_pp": 6.0}\n{"pl": 32, "speed_tg": 7.0, "speed_pp": 8.0}\n'
    assert offline.parse_batched(said, ["decode-32"]) == {"decode-32": [{"tok_s": 7.0, "prompt_tok_s": 8.0}]}
    peer = Contender("llama.cpp", "smollm2-135m", "Q8_0")
    command = offline.batched_command(peer, ["decode-8", "decode-64"], 2, {"kvu": "1"})
    assert command[command.index("-npl") + 1] == "8,64" and "--kv-unified" in command


def test_an_answer_is_found_among_an_engines_words() -> None:
    assert offline.answer_in('hello\n{"values": {"a": []}}\nbye\n')["values"] == {"a": []}
    with pytest.raises(RuntimeError, match="no answer"):
        offline.answer_in("hello\n")


def test_what_a_process_leaves_behind_is_ended() -> None:
    code = "import os, time\nchild = os.fork()\nif child == 0:\n    time.sleep(60)\nprint(child)"
    said = processes.output_of([sys.executable, "-c", code], os.environ, 30)
    stat = Path(f"/proc/{said.strip()}/stat")
    assert not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z"
    with pytest.raises(RuntimeError, match="code 3"):
        processes.output_of([sys.executable, "-c", "raise SystemExit(3)"], os.environ, 30)


def test_percentiles_are_nearest_ranks() -> None:
    values = [float(n) for n in range(1, 101)]
    assert [client.percentile(values, p) for p in (50, 99)] == [50.0, 99.0]
    assert client.percentile([3.0], 99) == 3.0


def test_loads_are_the_same_for_every_server() -> None:
    vocab = SHAPES["smollm2-135m"].vocab
    assert client.random_load(vocab, 5, 1) == client.random_load(vocab, 5, 1) != client.random_load(vocab, 5, 2)
    shared = client.prefix_load(vocab, 3, 1)
    assert shared[0].prompt[:1024] == shared[1].prompt[:1024] and shared[0].prompt != shared[1].prompt


def test_the_client_times_a_stream() -> None:
    ask = client.Ask([5, 6], 2)
    event = {"choices": [{"text": "a"}]}
    usage = {"choices": [], "usage": {"completion_tokens": 2}}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        body = json.loads(await reader.readexactly(int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])))
        assert body["prompt"] == [5, 6] and body["max_tokens"] == 2
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for said in (event, event, usage):
            writer.write(b"data: " + json.dumps(said).encode() + b"\n\n")
        writer.write(b"data: [DONE]\n\n")
        writer.close()

    async def both() -> client.Answer:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            return await client.complete(server.sockets[0].getsockname()[1], "m", ask)

    told = asyncio.run(both())
    assert told.tokens == 2 and len(told.pieces_s) == 2 and told.pieces_s[0] > told.sent_s
    assert client.metrics([ask], [told], 0.5)["tok_s"] == 4.0
    with pytest.raises(RuntimeError, match="2 tokens where 3"):
        client.metrics([client.Ask([5], 3)], [told], 0.5)


# ---------------------------------------------------------------- the page


def test_the_page_is_made_from_samples_and_keeps_what_was_written_by_hand() -> None:
    group, label = "single smollm2-135m Q8_0", "octavo smollm2-135m Q8_0"
    machine = {"bandwidth_gbs": 36.0, "int8_gops": 935.0, "bf16_gflops": 468.0, "f32_gflops": 234.0}
    samples = []
    for contender, speed in ((label, 190.0), (label.replace("octavo", "llama.cpp"), 100.0)):
        samples.append({"round": 0, "group": group, "contender": contender, "foreign_share": 0.01,
                        "values": {"decode-1": [{"tok_s": speed}]}, "limits": [machine, machine]})  # fmt: skip
    facts = {"date": "2026-01-01", "threads": 2, "machine": {"processor": "P"}, "versions": {"octavo": "v"},
             "matrices": {"smollm2-135m Q8_0": [[49152, 2736, 142_884_864.0, True, False, 1]]}}  # fmt: skip
    results = checks.results_of(samples, facts)
    text = report.body(results, facts, samples, "plot.svg")
    assert (
        "| 135M Q8_0, decode-1, against llama.cpp | 1.3x, 85% of the limit | 190 | 100 | 1.90 | 76% | **no** |" in text
    )
    assert "0 targets met, 1 missed" in text
    page = report.merged("# Mine\n\nbefore\n", text) + "\nafter\n"
    again = report.merged(page, "new")
    assert again.startswith("# Mine\n\nbefore\n") and again.endswith("after\n") and "190" not in again
