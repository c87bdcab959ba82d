"""`octavo bench kernels`: every kind has its rows, and their numbers belong together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from octavo.cli import main

pytest.importorskip("octavo._kernels", reason="CPU BACKEND ABSENT: the extension octavo._kernels is not built")

from octavo.backends.cpu.backend import CpuBackend
from octavo.backends.cpu.cost import Cost
from octavo.backends.cpu.limits import LimitLoops
from octavo.bench import kernels


def test_products_of_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "WORKING_SET", 2 << 20)
    to = tmp_path / "kernels.json"
    arguments = ["--kinds", "products", "--shapes", "256x2048", "--formats", "Q8_0,Q4_K,BF16", "--rows", "1,17"]
    assert main(["bench", "kernels", *arguments, "--rounds", "1", "--threads", "2", "--json", str(to)]) == 0
    result = json.loads(to.read_text())
    assert [(m["format"], m["rows"]) for m in result["kernels"]] == [
        (format, rows) for format in ("Q8_0", "Q4_K", "BF16") for rows in (1, 17)
    ]  # fmt: skip
    q8 = result["kernels"][1]
    assert q8["gop_per_s"] / q8["gb_per_s"] == pytest.approx(2 * 17 * 256 * 2048 / (256 * 2048 // 32 * 34))
    shortest = max(q8["gb_per_s"] / q8["limit_gb_per_s"], q8["gop_per_s"] / q8["limit_gop_per_s"])
    assert q8["fraction"] == pytest.approx(shortest)
    printed = capsys.readouterr().out
    assert printed.count("256x2048") == 6 and "2 threads: memory" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shapes", "12by34"], "OUTPUTSxINPUTS"),
        (["--formats", "Q9_9"], "Q9_9"),
        (["--kinds", "magic"], "products, attention"),
        (["--isa", "avx9000"], "avx9000"),
        (["--kv-cache-dtype", "q3"], "q3"),
        (["--rounds", "0"], "rounds must be at least 1"),
        (["--json", "/no/such/folder/x.json"], "/no/such/folder"),
        (["--threads", "5000"], "threads must be from 1 to 1024"),
        (["--kinds", "products", "--shapes", "1000000x1000000", "--formats", "F32"], "--shapes 1000000x1000000 in F32"),
        (["--rows", "999999999999"], "--rows 999999999999 takes"),
    ],
)
def test_refusals_name_the_option(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "kernels", "--kinds", "rows", *arguments]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("rows", ["a", "", "1,-2", "0", "1.5"])
def test_rows_are_numbers_from_one(rows: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "kernels", "--rows", rows])
    assert f"argument --rows: {rows!r} are no numbers from 1 up" in capsys.readouterr().err


def test_a_format_whose_blocks_do_not_fit_has_no_row() -> None:
    choice = kernels.Choice(("products",), ("32x576",), ("Q4_K",), (1,))
    assert list(kernels.trials(CpuBackend(threads=1), choice)) == []


def test_the_other_kinds_run() -> None:
    backend = CpuBackend(threads=2, fusions=frozenset({"memory"}))
    found = [
        kernels.attention(backend, (4, 2, 64), "f16", rows=2, tokens=1, context=48),
        kernels.attention(backend, (4, 2, 64), "f16", rows=1, tokens=20, context=50),
        kernels.attention(backend, (4, 2, 64), "int8", rows=1, tokens=1, context=48),
        *kernels.row_operations(backend, 128, 5),
        *kernels.sampling(backend, 300, 2),
    ]
    assert [trial.rows for trial in found[:2]] == [2, 20]
    assert found[0].cost == Cost(2 * 48 * 2 * 2 * 64 * 2, 2 * 48 * 4 * 4 * 64)
    assert found[1].cost == Cost(50 * 2 * 2 * 64 * 2, sum(range(31, 51)) * 4 * 4 * 64)
    assert found[2].cost == Cost(48 * 2 * 2 * (64 + 2), 48 * 4 * 4 * 64, "int8")
    assert [trial.kernel for trial in found[3:7]] == ["rmsnorm", "rope", "gated", "add"]
    assert found[6].cost.nbytes == 3 * 5 * 128 * 4
    assert all(trial.run() > 0 for trial in found)
    measured = kernels.measure(found[3], LimitLoops(backend), 1)
    assert measured.gop_per_s == 0 and measured.fraction == pytest.approx(measured.gb_per_s / measured.limit_gb_per_s)
    assert "rmsnorm" in kernels.line(measured)
