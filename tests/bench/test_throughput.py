"""`octavo bench throughput` and `latency`, from the command line to the numbers, on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from octavo.base.errors import ConfigError
from octavo.bench import report
from octavo.bench.limit import least_work
from octavo.bench.throughput import Limits, Workload, latency_report, percentile, summary, throughput_report
from octavo.bench.workload import dataset_asks, random_asks
from octavo.cli import main
from tools.make_model.gguf import write_gguf
from tools.make_model.shapes import Shape

pytest.importorskip("octavo._kernels", reason="CPU BACKEND ABSENT: the extension octavo._kernels is not built")

SHAPE = Shape("bench", 64, 2, 2, 1, 96, 512, 128, 10_000.0, head_dim=32)
WORKLOAD = ["--num-prompts", "5", "--concurrency", "3", "--input-len", "20", "--output-len", "6", "--num-iters", "2"]
ENGINE = ["--max-model-len", "64", "--kv-memory", "8MiB", "--threads", "2"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_gguf(tmp_path_factory.mktemp("bench") / "model.gguf", SHAPE, "Q8_0"))


def test_throughput_numbers_agree(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "throughput", model, *WORKLOAD, *ENGINE, "--json", "-"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["workload"] == {
        "num_prompts": 5, "concurrency": 3, "input_len": 20, "output_len": 6, "repeat": 2,
        "warmup": 1, "dataset": None, "seed": 0,
    }  # fmt: skip
    assert (result["prompt_tokens"], result["output_tokens"]) == (100, 30)
    assert result["total_tokens_per_s"] * result["seconds"] == pytest.approx(130)
    limits = result["limits"]
    assert result["prefill_fraction"] == pytest.approx(limits["prefill_s"] * result["prefill_tokens_per_s"] / 100)
    assert result["total_fraction"] == pytest.approx((limits["prefill_s"] + limits["decode_s"]) / result["seconds"])
    assert limits["gb_per_s"] > 0 and limits["gop_per_s"]["f32"] > 0
    later_s = result["seconds"] - 100 / result["prefill_tokens_per_s"]
    assert result["decode_tokens_per_s"] == (pytest.approx(25 / later_s) if later_s > 0 else None)
    assert "-kv-" in result["fingerprint"]


def test_latency_prints_and_writes(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = tmp_path / "latency.json"
    arguments = ["--batch-size", "2", "--input-len", "8", "--output-len", "5", "--num-iters", "3"]
    assert main(["bench", "latency", model, *arguments, *ENGINE, "--output-json", str(to)]) == 0
    result = json.loads(to.read_text())
    assert len(result["latencies_s"]) == 3 and result["seconds"] == pytest.approx(sorted(result["latencies_s"])[1])
    assert result["percentiles_s"]["50"] == pytest.approx(result["seconds"])
    printed = capsys.readouterr().out
    assert "2 requests, 2 at once, 16 tokens in, 10 out; median of 3" in printed
    assert all(word in printed for word in ("mean", "p99", "first token", "of the limit"))


def test_a_dataset_gives_prompts_and_lengths(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "asks.jsonl"
    path.write_text('{"prompt": "a b c", "output_len": 4}\n\n{"prompt": "d"}\n')
    arguments = ["--dataset", str(path), "--num-prompts", "2", "--num-iters", "1", "--output-len", "3"]
    assert main(["bench", "throughput", model, *arguments, *ENGINE, "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["output_tokens"] == 6
    path.write_text('{"prompt": "a", "output_len": "128"}\n')
    assert main(["bench", "throughput", model, *arguments, *ENGINE]) == 1
    assert "output_len must be a whole number from 1 up, not '128'" in capsys.readouterr().err


def asks(path: Path, **changes: int | None) -> list[tuple[int, int]]:
    options = {"num_prompts": 9, "input_len": None, "output_len": None, "default_output": 128} | changes
    found = dataset_asks(path, lambda text: [len(word) for word in text.split()], **options)  # type: ignore[arg-type]
    return [(len(ask.prompt), ask.output_len) for ask in found]


def test_files_of_prompts(tmp_path: Path) -> None:
    lines, told, shared = tmp_path / "a.txt", tmp_path / "b.jsonl", tmp_path / "c.json"
    lines.write_text("one two three\n\nfour\n")
    told.write_text('{"prompt": "one two", "output_len": 7}\n{"prompt": "one"}\n')
    turns = [{"from": "human", "value": "one two"}, {"from": "gpt", "value": "a b c"}]
    shared.write_text(json.dumps([{"conversations": turns}, {"conversations": turns[:1]}]))
    assert asks(lines) == [(3, 128), (1, 128)]
    assert asks(lines, num_prompts=1, input_len=2, output_len=5) == [(2, 5)]
    assert asks(told) == [(2, 7), (1, 128)]
    assert asks(shared) == [(2, 3)]
    (tmp_path / "bad.jsonl").write_text("[]\n")
    (tmp_path / "empty.txt").write_text("\n")
    for name in ("bad.jsonl", "empty.txt", "absent.txt"):
        with pytest.raises(ConfigError, match=name):
            asks(tmp_path / name)


def test_random_prompts_follow_their_seed() -> None:
    one = random_asks(2, 5, 3, 100, seed=4)
    assert one == random_asks(2, 5, 3, 100, seed=4) != random_asks(2, 5, 3, 100, seed=5)
    assert [len(ask.prompt) for ask in one] == [5, 5] and one[0].prompt != one[1].prompt


def test_a_workload_of_nothing_is_refused_by_name(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "throughput", model, "--output-len", "0", *ENGINE]) != 0
    assert "output-len must be at least 1, got 0" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="num-prompts must be at least 1"):
        Workload(0, 1, 1, 1, 1)
    for option, value, message in (
        ("--batch-size", "0", "batch-size must be at least 1, got 0"),
        ("--num-iters", "0", "num-iters must be at least 1, got 0"),
        ("--num-iters-warmup", "-1", "num-iters-warmup must not be negative, got -1"),
        ("--threads", "5000", "threads must be from 1 to 1024, got 5000"),
    ):
        assert main(["bench", "latency", model, *ENGINE, option, value]) == 1
        assert message in capsys.readouterr().err
    assert main(["bench", "throughput", model, "--backend", "reference", *WORKLOAD, "--max-model-len", "64"]) == 1
    assert "reference" in capsys.readouterr().err


def test_rates_and_fractions_of_given_seconds() -> None:
    lengths = [(10, 5), (30, 5)]
    limits = Limits(1.0, {"f32": 1.0}, prefill_s=0.1, decode_s=0.6)
    work = least_work(lengths, 2, 64)
    result = summary("m", "f", Workload(2, 2, 20, 5, 3), lengths, [0.2, 0.4, 0.3], [1.0, 1.5, 2.0], limits, work)
    assert (result.prefill_tokens_per_s, result.prefill_fraction) == pytest.approx((40 / 0.3, 1 / 3))
    assert (result.decode_tokens_per_s, result.decode_fraction) == pytest.approx((8 / 1.2, 0.5))
    assert result.total_fraction == pytest.approx(0.7 / 1.5)
    text = throughput_report(result)
    assert "decode         6.7 tokens/s  50% of the limit" in text
    assert "later token     300.00 ms  50% of the limit" in latency_report(result)


def test_a_later_token_is_a_step_of_the_longest_answer_of_the_requests_there_were() -> None:
    """Two prompts of a file where eight were asked for: 4 + 8 tokens are 8 steps, the first of them the prompts'."""
    lengths = [(10, 4), (30, 8)]
    work = least_work(lengths, 8, 64)
    limits = Limits(1.0, {}, 0.1, 0.35)
    result = summary("m", "f", Workload(8, 8, 20, None, 1, dataset="f"), lengths, [0.3], [1.0], limits, work)
    assert (result.num_requests, result.longest_output, result.decode_tokens_per_s) == (2, 8, pytest.approx(10 / 0.7))
    text = latency_report(result)
    assert "2 requests, 2 at once, 40 tokens in, 12 out" in text
    assert "later token     100.00 ms  50% of the limit" in text


def test_decode_that_cannot_be_told_is_not_a_number_out_of_the_air() -> None:
    limits = Limits(1.0, {}, 0.1, 0.0)
    result = summary("m", "f", Workload(1, 1, 8, 1, 1), [(8, 1)], [0.5], [0.5], limits, least_work([(8, 1)], 1, 64))
    assert result.decode_tokens_per_s is None and result.decode_fraction is None
    assert "decode        none" in throughput_report(result)


def test_percentiles_lie_between_values() -> None:
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0
    assert percentile([1.0, 2.0], 25) == 1.25
    assert percentile([5.0], 99) == 5.0


def test_results_replace_only_results(tmp_path: Path) -> None:
    to = tmp_path / "r.json"
    report.write_json({"a": 1}, str(to))
    report.write_json({"a": 2}, str(to))
    assert json.loads(to.read_text()) == {"a": 2} and [p.name for p in tmp_path.iterdir()] == ["r.json"]
    model = tmp_path / "model.gguf"
    model.write_text("weights")
    blocked = tmp_path / "blocked.json"
    (tmp_path / "blocked.json.part").mkdir()
    too_long = tmp_path / ("x" * 300 + ".json")
    for wrong in (model, tmp_path, tmp_path / "no" / "r.json", blocked, too_long):
        with pytest.raises(ConfigError, match=r"Cannot write|replace"):
            report.check_writable(str(wrong))
    with pytest.raises(ConfigError, match="Cannot write"):
        report.write_json({"a": 3}, str(blocked))
    report.check_writable(str(to))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["blocked.json.part", "model.gguf", "r.json"]
    assert report.table(["a", "b"], [["x", 1.234], ["long", None]]) == "a        b\nx     1.23\nlong     -"
