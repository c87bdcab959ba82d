"""--mlock is refused before loading, with numbers, where the system would refuse it."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from octavo.base.errors import ConfigError
from octavo.cli import main
from octavo.runner import locking

MIB = 1 << 20


def test_what_exceeds_the_limit_is_refused_with_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locking, "_is_privileged", lambda: False)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (8 * MIB, 16 * MIB))
    locking.check_lockable(8 * MIB)
    with pytest.raises(ConfigError, match=r"9\.0 MiB .* RLIMIT_MEMLOCK is 8\.0 MiB\. Raise it .*memlock=-1"):
        locking.check_lockable(9 * MIB)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (8 * MIB, resource.RLIM_INFINITY))
    with pytest.raises(ConfigError, match="may raise it itself"):
        locking.check_lockable(9 * MIB)


def test_a_plan_refuses_what_the_server_would(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("octavo._kernels", reason="CPU BACKEND ABSENT: the extension octavo._kernels is not built")
    monkeypatch.setattr(locking, "_is_privileged", lambda: False)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (8 * MIB, 8 * MIB))
    assert main(["plan", "--kv-memory", "64MiB"]) == 0
    assert main(["plan", "--kv-memory", "64MiB", "--mlock"]) == 1
    assert "RLIMIT_MEMLOCK is 8.0 MiB" in capsys.readouterr().err


def test_privileged_processes_and_those_without_a_limit_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (8 * MIB, 8 * MIB))
    monkeypatch.setattr(locking, "_is_privileged", lambda: True)
    locking.check_lockable(9 * MIB)
    monkeypatch.setattr(locking, "_is_privileged", lambda: False)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    locking.check_lockable(9 * MIB)


def test_the_privilege_is_a_bit_of_the_effective_set(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t0000000000004000\n")
    assert locking._is_privileged(status)
    status.write_text("Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t000001ffffffbfff\n")
    assert not locking._is_privileged(status)
    assert not locking._is_privileged(tmp_path / "absent")
