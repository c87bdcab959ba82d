"""Transfers that go wrong: waited for, resumed, verified, and never half written."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from octavo.base.errors import DownloadError
from octavo.weights import hub_client, transfer
from octavo.weights.hub import ModelFiles
from tests.weights.hub_server import Fault, HubServer, Repo, git_blob, sha256
from tests.weights.models_made import (
    SIDE_FILES,
    assert_opens,
    checkpoint,
    get,
)

WEIGHTS = "model.safetensors"


def content(hub: HubServer, name: str = WEIGHTS) -> str:
    return "/cdn/" + sha256(hub.repos["org/model"].files[name])


@pytest.fixture
def model(hub: HubServer, tmp_path: Path) -> HubServer:
    hub.repos["org/model"] = Repo({**SIDE_FILES, **checkpoint(tmp_path)})
    return hub


def assert_nothing_half_written(tmp_path: Path) -> None:
    for blob in (tmp_path / "hf" / "hub" / "models--org--model" / "blobs").iterdir():
        assert blob.name.endswith(".octavo-part") or blob.name in (
            sha256(blob.read_bytes()),
            git_blob(blob.read_bytes()),
        )


def test_rate_limits_are_waited_for(model: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(transfer.time, "sleep", waits.append)
    limit = {"status": 429, "headers": {"Retry-After": "7"}, "times": 2}
    model.faults = [Fault("/revision/main", **limit), Fault(content(model), **limit), Fault("/config.json", **limit)]  # type: ignore[arg-type]
    assert_opens(get("org/model"))
    assert waits == [7.0] * 6


def test_retry_after_may_be_a_date(model: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(transfer.time, "sleep", waits.append)
    date = {"Retry-After": "Fri, 01 Jan 2021 00:00:00 GMT"}
    model.faults = [Fault("/revision/main", status=429, headers=date)]
    assert_opens(get("org/model"))
    assert waits == [0.0]


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "0"}, {"Retry-After": "soon"}])
def test_endless_rate_limits_end_in_an_error(model: HubServer, tmp_path: Path, headers: dict[str, str]) -> None:
    model.faults = [Fault("/revision/main", status=429, times=-1, headers=headers)]
    with pytest.raises(DownloadError, match=r"too many requests \(HTTP 429\)"):
        get("org/model")
    model.faults = [Fault(content(model), status=429, times=-1, headers=headers)]
    with pytest.raises(DownloadError, match="HTTP 429, 5 times without progress"):
        get("org/model")
    model.faults = [Fault("/revision/main", status=429, headers={"Retry-After": "86400"})]
    with pytest.raises(DownloadError, match="come back in 86400 seconds"):
        get("org/model")
    assert_nothing_half_written(tmp_path)
    model.faults = []
    assert_opens(get("org/model"))


def test_server_errors_are_retried(model: HubServer) -> None:
    model.faults = [Fault("/revision/main", status=503, times=2), Fault(content(model), status=502, times=2)]
    assert_opens(get("org/model"))


def test_truncated_bodies_are_resumed(model: HubServer) -> None:
    model.faults = [Fault(content(model), cut_after=1000, times=3)]
    assert_opens(get("org/model"))
    ranges = [seen.headers.get("range") for seen in model.seen if seen.path == content(model)]
    assert ranges == [None, "bytes=1000-", "bytes=2000-", "bytes=3000-"]


def test_interrupted_download_is_continued_by_the_next(
    model: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "ATTEMPTS", 1)
    model.faults = [Fault(content(model), cut_after=5000), Fault(content(model), cut_after=0, times=-1)]
    size = len(model.repos["org/model"].files[WEIGHTS])
    with pytest.raises(DownloadError, match=f"5000 of {size} bytes are kept"):
        get("org/model")
    assert_nothing_half_written(tmp_path)
    model.faults, model.seen = [], []
    assert_opens(get("org/model"))
    assert {seen.headers.get("range") for seen in model.fetched(WEIGHTS)} == {"bytes=5000-"}
    assert not model.fetched("config.json")
    assert_nothing_half_written(tmp_path)


def test_server_that_ignores_ranges(model: HubServer) -> None:
    model.faults = [Fault(content(model), cut_after=1000), Fault(content(model), ignore_range=True, times=-1)]
    assert_opens(get("org/model"))


def test_server_that_ignores_ranges_and_always_breaks_off(model: HubServer) -> None:
    model.faults = [Fault(content(model), ignore_range=True, cut_after=1000, times=-1)]
    with pytest.raises(DownloadError, match="5 times without progress; 1000 of"):
        get("org/model")


def test_corrupt_content_is_fetched_again_once(model: HubServer, tmp_path: Path) -> None:
    model.faults = [Fault(content(model), corrupt=True)]
    assert_opens(get("org/model"))
    assert_nothing_half_written(tmp_path)


@pytest.mark.parametrize("name", [WEIGHTS, "tokenizer.json"])
def test_corrupt_content_is_never_kept(model: HubServer, tmp_path: Path, name: str) -> None:
    path = content(model) if name == WEIGHTS else name
    model.faults = [Fault(path, corrupt=True, times=-1)]
    with pytest.raises(DownloadError, match="does not match its checksum"):
        get("org/model")
    assert_nothing_half_written(tmp_path)
    model.faults = []
    assert_opens(get("org/model"))


def test_too_long_partial_file(model: HubServer, tmp_path: Path) -> None:
    data = model.repos["org/model"].files[WEIGHTS]
    blobs = tmp_path / "hf" / "hub" / "models--org--model" / "blobs"
    blobs.mkdir(parents=True)
    transfer.partial_path(blobs / sha256(data)).write_bytes(data + b"more")
    assert_opens(get("org/model"))


def test_full_disk_is_told_before(model: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10}))
    with pytest.raises(DownloadError, match=r"GiB are needed, 0\.00 GiB are free"):
        get("org/model")


def test_two_at_once_fetch_once(model: HubServer) -> None:
    results: list[ModelFiles] = []
    threads = [threading.Thread(target=lambda: results.append(get("org/model"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4 and len(set(results)) == 1
    assert_opens(results[0])
    assert len([path for path in model.paths() if path == content(model)]) == 1


def test_files_too_large_for_plain_http_come_by_the_hubs_library(
    model: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_client, "LARGEST_OVER_HTTP_BYTES", 5000)
    model.faults = [Fault(content(model), corrupt=True)]
    with pytest.raises(DownloadError, match="does not match its checksum"):
        get("org/model")
    assert_nothing_half_written(tmp_path)
    assert_opens(get("org/model"))
    assert not any("octavo" in seen.headers["user-agent"] for seen in model.fetched(WEIGHTS))
