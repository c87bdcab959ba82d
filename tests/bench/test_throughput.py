"""`octavo bench throughput`, from its command line to its numbers, on a tiny model."""

from __future__ import annotations

import json

import pytest

from octavo.base.errors import ConfigError
from octavo.bench.throughput import Throughput, Workload, report
from octavo.cli import main
from tools.make_model.gguf import write_gguf
from tools.make_model.shapes import Shape

pytest.importorskip("octavo._kernels", reason="CPU BACKEND ABSENT: the extension octavo._kernels is not built")

SHAPE = Shape("bench", 64, 2, 2, 1, 96, 512, 128, 10_000.0, head_dim=32)
WORKLOAD = ["--num-prompts", "5", "--concurrency", "3", "--input-len", "20", "--output-len", "6", "--repeat", "2"]
ENGINE = ["--max-model-len", "64", "--kv-memory", "8MiB", "--threads", "2"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_gguf(tmp_path_factory.mktemp("bench") / "model.gguf", SHAPE, "Q8_0"))


def test_the_command_prints_numbers_that_agree(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "throughput", model, *WORKLOAD, *ENGINE, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["workload"] == {
        "num_prompts": 5, "concurrency": 3, "input_len": 20, "output_len": 6, "repeat": 2
    }  # fmt: skip
    assert result["total_tokens_per_s"] * result["seconds"] == pytest.approx(5 * (20 + 6))
    assert result["prefill_tokens_per_s"] > 0
    assert result["decode_tokens_per_s"] is None or result["decode_tokens_per_s"] > 0
    assert "kv-f16" in result["fingerprint"]


def test_the_command_prints_text(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "throughput", model, *WORKLOAD, *ENGINE]) == 0
    printed = capsys.readouterr().out
    assert "5 requests, 3 at once, 20 tokens in, 6 out, median of 2" in printed
    assert all(f"{part} " in printed for part in ("prefill", "decode", "total"))


def test_a_workload_of_nothing_is_refused_by_name(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "throughput", model, "--output-len", "0", *ENGINE]) != 0
    assert "output-len must be at least 1, got 0" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="num-prompts must be at least 1"):
        Workload(0, 1, 1, 1, 1)


def test_decode_that_cannot_be_told_is_not_a_number_out_of_the_air() -> None:
    result = Throughput("m", "f", Workload(1, 1, 8, 1, 1), 0.5, 16.0, None, 18.0)
    assert "decode        none" in report(result, as_json=False)
    assert json.loads(report(result, as_json=True))["decode_tokens_per_s"] is None
