"""`octavo bench startup`: a real server is started, asked and ended."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from octavo.cli import main

pytest.importorskip("octavo._kernels", reason="CPU BACKEND ABSENT: the extension octavo._kernels is not built")


def test_a_start_has_its_parts_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = tmp_path / "startup.json"
    limits = "--max-model-len 128 --max-num-seqs 2 --kv-memory 4MiB"
    arguments = ["--num-iters", "1", "--threads", "1", "--serve-options", limits, "--json", str(to)]
    assert main(["bench", "startup", *arguments]) == 0
    result = json.loads(to.read_text())
    assert 0 < result["import_s"] < result["ready_s"] < result["first_token_s"]
    assert result["model"] == "octavo-demo" and len(result["starts"]) == 1
    assert "first token" in capsys.readouterr().out


def test_a_server_that_ends_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "startup", str(tmp_path / "no-such.gguf"), "--num-iters", "1"]) == 1
    error = capsys.readouterr().err
    assert "The server ended with code 1" in error and "no-such.gguf" in error
