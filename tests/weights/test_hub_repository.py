"""Hub repositories against a stand-in: what is fetched, what is reused, and what refusals say."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from octavo.base.errors import ConfigError, DownloadError, ModelFormatError, ModelNotFoundError
from tests.weights.gguf_writer import write_split_gguf
from tests.weights.hub_server import Fault, HubServer, Repo, git_blob, sha256
from tests.weights.models_made import (
    SIDE_FILES,
    STORED,
    UNWANTED,
    assert_opens,
    checkpoint,
    folder_bytes,
    get,
    gguf,
    quant_name,
)

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
