"""Flags: values with units, vLLM's spelling, what the commands refuse before anything is loaded."""

from __future__ import annotations

import argparse
import subprocess
import sys

import pytest

from octavo.base.config import EngineArgs
from octavo.base.errors import ConfigError
from octavo.base.vllm_options import VLLM_OPTIONS
from octavo.cli import COMMANDS, main
from octavo.cli.options import add_engine_options, amount, engine_args, length
from octavo.cli.serve import origins, port, seconds


def parsed(*flags: str) -> EngineArgs:
    parser = argparse.ArgumentParser()
    add_engine_options(parser)
    return engine_args(parser.parse_args(flags))


def test_flags_become_engine_args() -> None:
    args = parsed("m", "--max-model-len", "8k", "--kv-memory", "2GiB", "-np", "4", "--no-enable-prefix-caching")
    assert args == EngineArgs(
        model="m", max_model_len=8192, kv_memory_bytes=2 << 30, max_num_seqs=4, enable_prefix_caching=False
    )
    assert parsed() == EngineArgs()
    assert parsed("--model", "m") == parsed("m") == parsed("m", "-m", "m")
    with pytest.raises(ConfigError, match="Two models"):
        parsed("a", "--model", "b")


def test_llama_cpps_memory_flags_mean_what_they_say_or_are_refused() -> None:
    assert parsed("m", "--mlock") == EngineArgs(model="m", mlock=True)
    assert parsed("m", "--no-mmap") == EngineArgs(model="m"), "weights are packed: the file is never used in place"
    with pytest.raises(ConfigError, match="--mmap is not done here"):
        parsed("m", "--mmap")
    with pytest.raises(ConfigError, match="--no-mmap is for the CPU backend"):
        parsed("m", "--no-mmap", "--backend", "reference")
    with pytest.raises(ConfigError, match="mlock must be true or false"):
        EngineArgs(model="m", mlock=1)  # type: ignore[arg-type]


@pytest.mark.parametrize(("text", "count"), [("4096", 4096), ("8k", 8000), ("2GiB", 2 << 30), ("1.5M", 1_500_000)])
def test_amounts_have_units(text: str, count: int) -> None:
    assert amount(text) == count


def test_lengths_are_in_thousands_of_1024() -> None:
    assert [length(t) for t in ("8k", "8Ki", "100", "1M")] == [8192, 8192, 100, 1 << 20]
    for wrong in ("", "k", "-5", "8x"):
        with pytest.raises(argparse.ArgumentTypeError):
            length(wrong)


def test_vllms_flags_go_by_their_values() -> None:
    args = parsed(
        "m", "-tp", "1", "--trust-remote-code", "--quantization", "None", "--enforce-eager", "--device", "cpu"
    )
    assert args == EngineArgs(model="m")
    assert parsed("--trust-remote-code", "m").model == "m"
    with pytest.raises(ConfigError, match="tensor_parallel_size=2"):
        parsed("m", "--tensor-parallel-size", "2")
    with pytest.raises(ConfigError, match="quantization='awq'"):
        parsed("m", "--quantization", "awq")
    assert not set(VLLM_OPTIONS) & set(EngineArgs.__dataclass_fields__)


def test_origins_are_listed_or_json() -> None:
    assert origins("*") == ("*",)
    assert origins("none") == origins("[]") == ()
    assert origins('["https://a.example", "http://localhost:3000"]') == ("https://a.example", "http://localhost:3000")
    assert origins("https://a.example,https://b.example") == ("https://a.example", "https://b.example")
    for wrong in ("example.org", "https://a.example/"):
        with pytest.raises(argparse.ArgumentTypeError):
            origins(wrong)


def test_ports_and_seconds_have_bounds() -> None:
    assert (port("0"), port("65535"), seconds("0")) == (0, 65535, 0)
    for wrong in ("65536", "-1", "99999"):
        with pytest.raises(argparse.ArgumentTypeError):
            port(wrong)
    for wrong in ("-1", "nan", "inf"):
        with pytest.raises(argparse.ArgumentTypeError):
            seconds(wrong)


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in COMMANDS)
    for name in COMMANDS:
        with pytest.raises(SystemExit) as ended:
            main([name, "--help"])
        assert ended.value.code == 0
        assert "tensor-parallel" not in capsys.readouterr().out


def test_help_imports_nothing_heavy() -> None:
    code = "import sys\nfrom octavo.cli import main\nmain([])\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "starlette", "tokenizers", "jinja2", "msgspec"} & set(done.stderr.split())
