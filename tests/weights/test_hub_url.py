"""GGUF files by URL."""

from __future__ import annotations

from pathlib import Path

import pytest

from octavo.base.errors import ConfigError, DownloadError, ModelNotFoundError
from octavo.weights import hub_client, transfer
from tests.weights.gguf_writer import write_split_gguf
from tests.weights.hub_server import Fault, HubServer, Repo, sha256
from tests.weights.models_made import (
    STORED,
    assert_opens,
    get,
    gguf,
    quant_name,
)


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
