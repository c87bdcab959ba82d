"""The comparison with other engines: its worker, its measurements and its report (the other engine is not needed)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.engine import WORKERS, Engine
from tests.bench.test_throughput import SHAPE
from tools.make_model.gguf import write_gguf

pytest.importorskip("octavo._kernels", reason="CPU BACKEND ABSENT: the extension octavo._kernels is not built")


def test_a_worker_measures_and_refuses(tmp_path: Path) -> None:
    model = write_gguf(tmp_path / "model.gguf", SHAPE, "Q8_0")
    engine = Engine("octavo", [sys.executable, str(WORKERS / "octavo_worker.py")])
    try:
        with pytest.raises(RuntimeError, match="no-such"):
            engine.ask("open", model=str(tmp_path / "no-such.gguf"), threads=1, max_requests=2, length=32)
        facts = engine.ask("open", model=str(model), threads=1, max_requests=2, length=32)
        assert facts["vocab_size"] == SHAPE.vocab
        sample = engine.measure(requests=2, input_len=16, output_len=8, seed=1)
        assert sample.total_s == pytest.approx(sample.prefill_s + sample.decode_s)
        assert sample.prefill_s > 0
        assert engine.resident_bytes > 1 << 20
    finally:
        engine.close()


def test_rates_are_medians_of_tokens_over_seconds() -> None:
    samples = [{"prefill_s": 1.0, "decode_s": d, "total_s": 1.0 + d} for d in (1.0, 3.0, 2.0)]
    assert report.rates(samples, requests=4, input_len=10, output_len=11) == {
        "prefill": 40.0, "decode": 20.0, "total": 28.0
    }  # fmt: skip


def test_the_report_has_every_point(tmp_path: Path) -> None:
    sample = {"prefill_s": 1.0, "decode_s": 1.0, "total_s": 2.0, "foreign_share": 0.04}
    side = {"tokens_per_s": {"prefill": 10.0, "decode": 20.0, "total": 15.0}, "samples": [sample]}
    point = {"requests": 8, "octavo": side, "llama.cpp": {**side, "setting": "flash attention on"},
             "ratio": {"prefill": 1.0, "decode": 1.5, "total": 1.2}}  # fmt: skip
    both = {"octavo": 1, "llama.cpp": 2}
    model = {"name": "m Q8_0", "bytes": 1 << 20, "load_s": both, "resident_mib": both, "points": [point]}
    engine = {"version": "1", "settings": "2 threads"}
    results = {
        "date": "2026-01-01", "machine": report.machine(), "method": ["As said."], "models": [model],
        "workload": {"input_len": 10, "output_len": 11, "rounds": 1},
        "engines": {"octavo": engine, "llama.cpp": engine},
    }  # fmt: skip
    text = report.write(results, tmp_path, "made").read_text()
    assert "| m Q8_0 | 8 | decode | 20.0 | 20.0 | 1.50 | 0.04 |" in text
    assert "- llama.cpp on m Q8_0: 8 requests: flash attention on" in text
    assert (tmp_path / "made.json").exists()
