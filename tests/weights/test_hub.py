"""Names to files, against a stand-in Hub: what is fetched, what is reused, and what every failure says."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from octavo.base.errors import ConfigError, DownloadError, ModelError, ModelFormatError, ModelNotFoundError
from octavo.weights import hub_client, transfer
from octavo.weights.hub import ModelFiles, aliases, resolve
from octavo.weights.loader import open_source
from tests.weights.gguf_writer import gguf_bytes, write_gguf, write_split_gguf
from tests.weights.hub_server import Fault, HubServer, Repo, git_blob, running_hub, sha256
from tests.weights.safetensors_writer import write_safetensors, write_sharded

STORED = {name: ("F32", (64, 16), np.full(1024, value, np.float32).tobytes()) for name, value in (("a", 1), ("b", 2))}
SIDE_FILES = {
    "config.json": b'{"model_type": "llama"}',
    "generation_config.json": b'{"eos_token_id": 2}',
    "tokenizer.json": b'{"model": {}}',
    "tokenizer_config.json": b"{}",
    "chat_template.jinja": b"{{ messages }}",
}
UNWANTED = {
    "README.md": b"# Model",
    ".gitattributes": b"",
    "pytorch_model.bin": b"\x80\x04 a pickle",
    "pytorch_model.bin.index.json": b"{}",
    "original/consolidated.00.pth": b"\x80\x04",
    "onnx/model.onnx": b"onnx",
    "consolidated.safetensors": b"other weights",
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("OCTAVO_HOME", str(tmp_path / "octavo"))
    monkeypatch.setattr(transfer, "FIRST_WAIT_S", 0.001)
    with running_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def checkpoint(tmp_path: Path, shards: int = 1) -> dict[str, bytes]:
    folder = tmp_path / f"made-{shards}"
    folder.mkdir()
    if shards == 1:
        write_safetensors(folder / "model.safetensors", STORED)
    else:
        write_sharded(folder, STORED, shards)
    return folder_bytes(folder)


def gguf(quant: str) -> bytes:
    return gguf_bytes({"general.name": quant}, STORED)


def get(name: str, **options: object) -> ModelFiles:
    return resolve(name, progress=False, **options)  # type: ignore[arg-type]


def assert_opens(files: ModelFiles) -> None:
    source = open_source(files)
    assert {name: source.raw(name).tobytes() for name in source.tensors} == {n: s[2] for n, s in STORED.items()}
    source.close()


def quant_name(files: ModelFiles) -> str:
    assert files.kind == "gguf"
    with open_source(files) as source:  # type: ignore[attr-defined]
        return str(source.metadata["general.name"])


# --- Hugging Face repositories


@pytest.mark.parametrize("shards", [1, 2])
def test_checkpoint_is_fetched_once_and_then_used_offline(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards: int
) -> None:
    weights = checkpoint(tmp_path, shards)
    hub.repos["org/model"] = Repo({**SIDE_FILES, **UNWANTED, **weights})
    files = get("org/model")
    assert (files.name, files.kind) == ("org/model", "hf")
    assert folder_bytes(files.path) == {**SIDE_FILES, **weights}
    assert_opens(files)
    for name in UNWANTED:
        assert not hub.fetched(name)
    requests = len(hub.seen)
    assert get("org/model") == files
    assert len(hub.seen) == requests
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert get("org/model") == files


def test_layout_is_that_of_the_hugging_face_cache(hub: HubServer, tmp_path: Path) -> None:
    from huggingface_hub import scan_cache_dir, snapshot_download

    hub.repos["org/model"] = Repo({**SIDE_FILES, **checkpoint(tmp_path)})
    files = get("org/model")
    root = tmp_path / "hf" / "hub"
    folder = root / "models--org--model"
    weights = files.path / "model.safetensors"
    assert files.path == folder / "snapshots" / ("a" * 40)
    assert (folder / "refs" / "main").read_text() == "a" * 40
    assert weights.is_symlink() and weights.resolve() == folder / "blobs" / sha256(weights.read_bytes())
    config = files.path / "config.json"
    assert config.resolve().name == git_blob(config.read_bytes())
    found = snapshot_download("org/model", cache_dir=root, local_files_only=True)
    assert Path(found) == files.path
    (repo,) = scan_cache_dir(root).repos
    assert repo.repo_id == "org/model" and repo.nb_files == len(SIDE_FILES) + 1


def test_what_other_tools_fetched_is_used(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import hf_hub_download

    hub.repos["org/model"] = Repo({**SIDE_FILES, **checkpoint(tmp_path)})
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        hf_hub_download("org/model", name, cache_dir=tmp_path / "hf" / "hub", endpoint=hub.url)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert_opens(get("org/model"))
    monkeypatch.delenv("HF_HUB_OFFLINE")
    before = len(hub.fetched("model.safetensors"))
    assert set(SIDE_FILES) < set(folder_bytes(get("org/model").path))  # what was left out is fetched now
    assert len(hub.fetched("model.safetensors")) == before


def test_incomplete_cache_is_not_used_offline(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repos["org/model"] = Repo({**SIDE_FILES, **checkpoint(tmp_path, 2)})
    files = get("org/model")
    shard = files.path / "model-00002-of-00002.safetensors"
    shard.resolve().unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelNotFoundError, match=r"org/model is not in .*HF_HUB_OFFLINE"):
        get("org/model")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert_opens(get("org/model"))


def test_damaged_blob_is_fetched_again(hub: HubServer, tmp_path: Path) -> None:
    hub.repos["org/model"] = Repo({**SIDE_FILES, **checkpoint(tmp_path)})
    files = get("org/model")
    weights = files.path / "model.safetensors"
    weights.resolve().write_bytes(b"cut")
    weights.unlink()
    assert_opens(get("org/model"))


def test_revisions_and_refresh(hub: HubServer, tmp_path: Path) -> None:
    revisions = {"main": "a" * 40, "v1.0": "b" * 40, "refs/pr/3": "c" * 40}
    hub.repos["org/model"] = repo = Repo({**SIDE_FILES, **checkpoint(tmp_path)}, revisions)
    assert get("org/model@v1.0").path.name == "b" * 40
    assert get("org/model", revision="refs/pr/3").path.name == "c" * 40
    assert get("org/model@" + "b" * 40).path.name == "b" * 40
    assert get("org/model").path.name == "a" * 40
    repo.revisions["main"] = "d" * 40
    repo.files["config.json"] = b'{"model_type": "newer"}'
    assert get("org/model").path.name == "a" * 40
    newer = get("org/model", refresh=True)
    assert newer.path.name == "d" * 40 and (newer.path / "config.json").read_bytes() == repo.files["config.json"]
    assert get("org/model") == newer
    assert len(hub.fetched("model.safetensors")) == 1
    with pytest.raises(ModelNotFoundError, match="no branch, tag or commit 'v2'"):
        get("org/model@v2")
    with pytest.raises(ConfigError, match=r"names the revision v1\.0"):
        get("org/model@v1.0", revision="v2")
    with pytest.raises(ConfigError, match="not the name of a revision"):
        get("org/model@../../x")


def test_download_dir_takes_the_place_of_the_cache(hub: HubServer, tmp_path: Path) -> None:
    hub.repos["org/model"] = Repo({**SIDE_FILES, **checkpoint(tmp_path)})
    files = get("org/model", download_dir=tmp_path / "mine")
    assert files.path.is_relative_to(tmp_path / "mine") and not (tmp_path / "hf").exists()
    assert_opens(files)


def test_listing_without_checksums_asks_for_each_file(hub: HubServer, tmp_path: Path) -> None:
    hub.repos["org/model"] = Repo({**SIDE_FILES, **checkpoint(tmp_path)}, lists_blobs=False)
    files = get("org/model")
    assert_opens(files)
    assert (files.path / "model.safetensors").resolve().name == sha256((files.path / "model.safetensors").read_bytes())
    assert "/org/model/resolve/" + "a" * 40 + "/model.safetensors" in hub.paths("HEAD")


def test_pickles_only(hub: HubServer) -> None:
    hub.repos["org/old"] = Repo({**SIDE_FILES, "pytorch_model.bin": b"\x80"})
    with pytest.raises(ModelNotFoundError, match=r"pickled weights only \(pytorch_model\.bin\).*never opened"):
        get("org/old")
    hub.repos["org/none"] = Repo({"README.md": b""})
    with pytest.raises(ModelNotFoundError, match="holds no weights"):
        get("org/none")
    assert not hub.fetched("pytorch_model.bin")


@pytest.mark.parametrize("name", ["../evil.json", "/etc/evil.json", "a/../../evil.json", "a\\b.json"])
def test_file_names_cannot_leave_the_cache(hub: HubServer, tmp_path: Path, name: str) -> None:
    hub.repos["org/model"] = Repo({**SIDE_FILES, **checkpoint(tmp_path), name: b"{}"})
    with pytest.raises(ModelFormatError, match="not accepted"):
        get("org/model")


# --- GGUF repositories


QUANTS = ("Q2_K", "Q4_K_M", "IQ4_K_M", "Q8_0", "bf16")


@pytest.fixture
def gguf_repo(hub: HubServer) -> HubServer:
    files = {f"Model-7B.{quant}.gguf": gguf(quant) for quant in QUANTS}
    extras = {"mmproj-Q4_K_M.gguf": b"", "imatrix.gguf": b"", "README.md": b"", "config.json": b"{}"}
    hub.repos["org/model-GGUF"] = Repo({**files, **extras})
    return hub


@pytest.mark.parametrize(
    ("tag", "quant"),
    [("", "Q4_K_M"), (":Q8_0", "Q8_0"), (":q8_0", "Q8_0"), (":Q4_K_M", "Q4_K_M"), (":BF16", "bf16")]
    + [(":Model-7B.Q2_K.gguf", "Q2_K"), (":model-7b.q2_k", "Q2_K"), ("@main:Q8_0", "Q8_0")],
)
def test_one_gguf_among_several(gguf_repo: HubServer, tag: str, quant: str) -> None:
    assert quant_name(get("org/model-GGUF" + tag)) == quant
    assert len([path for path in gguf_repo.paths() if path.startswith("/cdn/")]) == 1
    assert quant_name(get("hf.co/org/model-GGUF" + tag)) == quant
    assert len([path for path in gguf_repo.paths() if path.startswith("/cdn/")]) == 1


def test_unknown_quantization_lists_the_choices(gguf_repo: HubServer) -> None:
    with pytest.raises(ModelNotFoundError, match=r"no GGUF file for 'Q5_K_M'.*Q2_K\.gguf, Model-7B\.Q4_K_M\.gguf") as e:
        get("org/model-GGUF:Q5_K_M")
    assert "mmproj" not in str(e.value)


def test_ambiguous_quantization_lists_the_choices(gguf_repo: HubServer) -> None:
    gguf_repo.repos["org/model-GGUF"].files["Model-7B-UD-Q4_K_M.gguf"] = gguf("UD")
    for name in ("org/model-GGUF", "org/model-GGUF:Q4_K_M"):
        with pytest.raises(ModelNotFoundError, match=r"several GGUF files fit Q4_K_M.*UD-Q4_K_M\.gguf, .*B\.Q4_K_M"):
            get(name)
    assert quant_name(get("org/model-GGUF:Model-7B-UD-Q4_K_M.gguf")) == "UD"


def test_no_default_among_several(hub: HubServer) -> None:
    hub.repos["org/m"] = Repo({f"m-{quant}.gguf": gguf(quant) for quant in ("Q8_0", "F16")})
    with pytest.raises(ModelNotFoundError, match=r"no Q4_K_M.*NAME:Q8_0.*m-F16\.gguf, m-Q8_0\.gguf"):
        get("org/m")
    del hub.repos["org/m"].files["m-F16.gguf"]
    assert quant_name(get("org/m")) == "Q8_0"


def test_safetensors_come_first_unless_a_quantization_is_named(hub: HubServer, tmp_path: Path) -> None:
    hub.repos["org/m"] = Repo({**SIDE_FILES, **checkpoint(tmp_path), "m-Q8_0.gguf": gguf("Q8_0")})
    assert get("org/m").kind == "hf"
    assert quant_name(get("org/m:Q8_0")) == "Q8_0"


def test_split_gguf(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = write_split_gguf(tmp_path, "m-Q4_K_M", {"general.name": "split"}, STORED, 2)
    hub.repos["org/m"] = repo = Repo({f"Q4_K_M/{path.name}": path.read_bytes() for path in paths})
    repo.files["m-Q8_0.gguf"] = gguf("Q8_0")
    files = get("org/m")
    assert files.path.name == "m-Q4_K_M-00001-of-00002.gguf"
    assert quant_name(files) == "split"
    assert_opens(files)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert get("org/m:q4_k_m").path == get("org/m:Q4_K_M").path == files.path
    monkeypatch.delenv("HF_HUB_OFFLINE")
    del repo.files[f"Q4_K_M/{paths[1].name}"]
    with pytest.raises(ModelNotFoundError, match="has only 1 of 2 parts"):
        get("org/m", refresh=True)


def test_offline_knows_only_what_was_fetched(gguf_repo: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    get("org/model-GGUF:Q8_0")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert quant_name(get("org/model-GGUF:Q8_0")) == "Q8_0"
    assert quant_name(get("org/model-GGUF")) == "Q8_0"  # the only one here
    with pytest.raises(ModelNotFoundError, match="org/model-GGUF:Q2_K is not in"):
        get("org/model-GGUF:Q2_K")


# --- access


def test_token_goes_to_the_hub_and_not_to_the_cdn(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.repos["org/gated"] = Repo({**SIDE_FILES, **checkpoint(tmp_path)}, gated_for="hf_secret", private=True)
    assert_opens(get("org/gated"))
    for seen in hub.seen:
        expected = None if seen.path.startswith("/cdn/") else "Bearer hf_secret"
        assert seen.headers.get("authorization") == expected
    assert any(seen.path.startswith("/cdn/") for seen in hub.seen)


def test_gated_repositories_say_what_to_do(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repos["org/gated"] = Repo({**SIDE_FILES, **checkpoint(tmp_path)}, gated_for="hf_secret")
    with pytest.raises(DownloadError, match=rf"org/gated is gated.*{hub.url}/org/gated first; set HF_TOKEN"):
        get("org/gated")
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(DownloadError, match=rf"{hub.url}/org/gated first; the account of your HF_TOKEN"):
        get("org/gated")


def test_unknown_repositories_get_suggestions(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repos["org/smol-model"] = Repo({})
    with pytest.raises(ModelNotFoundError, match=r"no model org/smolmodel.*set HF_TOKEN.*mean org/smol-model\?"):
        get("org/smolmodel")
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    with pytest.raises(ModelNotFoundError, match="your HF_TOKEN may not see it"):
        get("org/smolmodel")


def test_something_that_is_no_hub(hub: HubServer) -> None:
    hub.faults = [Fault("/revision/main", status=200, times=-1)]
    with pytest.raises(DownloadError, match="check HF_ENDPOINT"):
        get("org/model")


def test_unreachable_hub(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:  # type: ignore[no-untyped-def]
    hub.repos["org/model"] = Repo({**SIDE_FILES, **checkpoint(tmp_path)})
    files = get("org/model")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with caplog.at_level(logging.WARNING):
        assert get("org/model", refresh=True) == files
    assert "cannot reach http://127.0.0.1:9" in caplog.text
    with pytest.raises(DownloadError, match=r"cannot reach http://127\.0\.0\.1:9"):
        get("org/other")


# --- transfers that go wrong


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


# --- URLs


def serve(hub: HubServer, path: str, data: bytes, etag: str | None = '"v1"') -> str:
    hub.plain[path] = data
    if etag:
        hub.etags[path] = etag
    return hub.url + path


def test_url_is_fetched_once(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = serve(hub, "/dir/my model.gguf", gguf("one")).replace(" ", "%20")
    files = get(url + "?signature=1")
    assert files.path.name == "my model.gguf" and files.path.is_relative_to(tmp_path / "octavo" / "downloads")
    assert_opens(files)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert get(url).path == files.path
    assert len(hub.seen) == 2
    with pytest.raises(ModelNotFoundError, match="never fetched, and HF_HUB_OFFLINE"):
        get(hub.url + "/dir/other.gguf")


def test_url_refresh_takes_a_newer_version(hub: HubServer) -> None:
    url = serve(hub, "/m.gguf", gguf("one"))
    get(url)
    assert quant_name(get(url, refresh=True)) == "one"
    assert len(hub.paths("GET")) == 1
    serve(hub, "/m.gguf", gguf("two"), '"v2"')
    assert quant_name(get(url)) == "one"
    assert quant_name(get(url, refresh=True)) == "two"


@pytest.mark.parametrize("etag", ['"v1"', None])
def test_url_partial_of_an_older_version_is_not_continued(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, etag: str | None
) -> None:
    monkeypatch.setattr(transfer, "ATTEMPTS", 1)
    url = serve(hub, "/m.gguf", gguf("one"), etag)
    hub.faults = [Fault("/m.gguf", cut_after=5000), Fault("/m.gguf", cut_after=0)]
    with pytest.raises(DownloadError, match="5000 of"):
        get(url)
    serve(hub, "/m.gguf", gguf("two"), '"v2"' if etag else None)
    files = get(url)
    assert quant_name(files) == "two"
    assert_opens(files)


def test_url_of_one_part_brings_all(hub: HubServer, tmp_path: Path) -> None:
    paths = write_split_gguf(tmp_path, "m", {"general.name": "split"}, STORED, 2)
    urls = [serve(hub, f"/{path.name}", path.read_bytes()) for path in paths]
    files = get(urls[1])
    assert files.path.name == paths[0].name
    assert_opens(files)


def test_url_of_the_hub_uses_token_and_hash(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    data = gguf("Q8_0")
    hub.repos["org/model"] = Repo({"m.gguf": data}, gated_for="hf_secret")
    assert_opens(get(f"{hub.url}/org/model/resolve/main/m.gguf"))
    assert all(("authorization" in seen.headers) == (not seen.path.startswith("/cdn/")) for seen in hub.seen)
    hub.faults = [Fault(sha256(data), corrupt=True, times=-1)]
    with pytest.raises(DownloadError, match="does not match its checksum"):
        get(f"{hub.url}/org/model/resolve/{'a' * 40}/m.gguf")


def test_token_does_not_go_to_other_servers(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
    get(serve(hub, "/m.gguf", gguf("one")))
    assert hub.seen and not any("authorization" in seen.headers for seen in hub.seen)


def test_url_refusals(hub: HubServer) -> None:
    with pytest.raises(ModelNotFoundError, match="HTTP 404"):
        get(hub.url + "/none.gguf")
    serve(hub, "/m.gguf", gguf("one"))
    hub.faults = [Fault("/m.gguf", status=403, times=-1)]
    with pytest.raises(DownloadError, match=r"access denied \(HTTP 403\)"):
        get(hub.url + "/m.gguf")
    hub.faults = [Fault("/m.gguf", status=405, method="HEAD", times=-1)]
    assert quant_name(get(hub.url + "/m.gguf")) == "one"
    for url, words in (
        ("http://example.com/m.gguf", "over https only"),
        ("https://example.com/model.bin", "must name a .gguf file"),
    ):
        with pytest.raises(ModelNotFoundError, match=words):
            get(url)
    with pytest.raises(ConfigError, match="belongs to Hub repositories"):
        get(hub.url + "/m.gguf", revision="main")


def test_page_addresses_of_the_hub(monkeypatch: pytest.MonkeyPatch, hub: HubServer) -> None:
    asked: list[str] = []

    def fetch_url(url: str, directory: Path, *, progress: bool, refresh: bool) -> Path:
        asked.append(url)
        return directory / "m.gguf"

    monkeypatch.setattr(hub_client, "fetch_url", fetch_url)
    get("https://huggingface.co/org/name/blob/main/m.gguf")
    assert asked == ["https://huggingface.co/org/name/resolve/main/m.gguf"]
    hub.repos["org/name"] = Repo({"m.gguf": gguf("one")})
    assert quant_name(get("https://huggingface.co/org/name")) == "one"


# --- local names


def test_local_files_and_folders(tmp_path: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gguf(tmp_path / "m.gguf", {}, STORED)
    blob = path.rename(tmp_path / "sha256-0123")  # as other stores name their GGUF files
    assert get(str(blob)) == ModelFiles(str(blob), "gguf", blob)
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(ModelNotFoundError, match="holds no weights"):
        get(str(folder))
    write_gguf(folder / "m-Q8_0.gguf", {}, STORED)
    write_gguf(folder / "mmproj-m.gguf", {}, STORED)
    assert get(str(folder)).path == folder / "m-Q8_0.gguf"
    write_gguf(folder / "m-Q4_0.gguf", {}, STORED)
    with pytest.raises(ModelNotFoundError, match=r"name the file: m-Q4_0\.gguf, m-Q8_0\.gguf"):
        get(str(folder))
    write_safetensors(folder / "model.safetensors", STORED)
    with pytest.raises(ModelFormatError, match=r"config\.json is missing"):
        get(str(folder))
    (folder / "config.json").write_text("{}")
    for name in (folder, folder / "model.safetensors"):
        assert get(str(name)) == ModelFiles(str(name), "hf", folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for relative in ("folder", "./folder", "~/folder"):
        assert get(relative).path.resolve() == folder
    with pytest.raises(ConfigError, match="belongs to Hub repositories"):
        get("folder", revision="main")
    assert not hub.seen


def test_local_files_of_other_kinds(tmp_path: Path) -> None:
    for name, error, words in (
        ("model.bin", ModelFormatError, "never opened"),
        ("notes.txt", ModelFormatError, "neither a GGUF file nor"),
    ):
        (tmp_path / name).write_bytes(b"text")
        with pytest.raises(error, match=words):
            get(str(tmp_path / name))
    write_safetensors(tmp_path / "m.gguf", STORED)
    with pytest.raises(ModelError, match="not a GGUF file"):
        open_source(get(str(tmp_path / "m.gguf")))


def test_missing_local_files_get_suggestions(tmp_path: Path, hub: HubServer) -> None:
    write_gguf(tmp_path / "tiny-model.gguf", {}, STORED)
    with pytest.raises(ModelNotFoundError, match=r"Did you mean .*tiny-model\.gguf\?"):
        get(str(tmp_path / "tiny-modell.gguf"))
    for name in ("missing.gguf", "./missing/model", "/missing/model", "~/missing/model", "bare-name", "a b/c", ""):
        with pytest.raises(ModelNotFoundError, match="org/name"):
            get(name)
    assert not hub.seen


def test_aliases(tmp_path: Path, hub: HubServer) -> None:
    assert Path(aliases()["octavo-demo"]).parts[-3:] == ("octavo", "demo", "octavo-demo.gguf")
    path = write_gguf(tmp_path / "m.gguf", {}, STORED)
    hub.repos["org/m"] = Repo({"m-Q8_0.gguf": gguf("Q8_0")})
    home = tmp_path / "octavo"
    home.mkdir()
    entries = {"mine": str(path), "again": "mine", "remote": "org/m:Q8_0", "a": "b", "b": "a"}
    (home / "aliases.json").write_text(json.dumps(entries))
    assert get("mine") == ModelFiles("mine", "gguf", path)
    assert get("again") == ModelFiles("again", "gguf", path)
    assert quant_name(get("remote")) == "Q8_0"
    with pytest.raises(ModelNotFoundError, match=r"Did you mean mine\?"):
        get("minee")
    with pytest.raises(ConfigError, match=r"in a circle: a -> b -> a"):
        get("a")
    for text in ("[1]", '{"a": 1}', "{"):
        (home / "aliases.json").write_text(text)
        with pytest.raises(ConfigError, match=r"aliases\.json"):
            get("mine")


def test_nothing_heavy_is_imported_for_models_that_are_here(tmp_path: Path, hub: HubServer) -> None:
    hub.repos["org/model"] = Repo({**SIDE_FILES, **checkpoint(tmp_path)})
    get("org/model")
    path = write_gguf(tmp_path / "m.gguf", {}, STORED)
    code = (
        "import sys; from octavo.weights.hub import resolve; from octavo.weights import loader\n"
        "for name in sys.argv[1:]: loader.open_source(resolve(name))\n"
        "heavy = {'huggingface_hub', 'httpx', 'httpx2', 'tqdm', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code, "org/model", str(path)], check=True, cwd=Path(__file__).parents[2])
