"""Talking to the Hub, or to a server that holds a GGUF file: listings, downloads, and refusals put into words.

Owns the addresses, the token and the meaning of error answers. Does not decide which files are wanted.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from octavo.base.errors import DownloadError, ModelFormatError, ModelNotFoundError, OctavoError
from octavo.weights.hub_cache import Repository, RepositoryCache, is_offline
from octavo.weights.transfer import (
    PARTIAL_ENDING,
    RemoteFile,
    all_headers,
    checksum_holds,
    fetch,
    partial_path,
    progress_bar,
    request,
)

_CHECKSUM = re.compile(r"^([0-9a-f]{40}|[0-9a-f]{64})$")
LARGEST_OVER_HTTP_BYTES = 50_000_000_000
_SPLIT_URL = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


@dataclass(frozen=True)
class Entry:
    """A file of a repository as its listing tells it; size and checksum None where it does not."""

    name: str
    size: int | None
    checksum: str | None


@dataclass(frozen=True)
class Listing:
    """All files of a repository at one commit."""

    commit: str
    entries: Mapping[str, Entry]


def hub_endpoint() -> str:
    """The Hub's address: HF_ENDPOINT, by default https://huggingface.co."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


class HubClient:
    """One repository at the Hub that HF_ENDPOINT names, with the user's token if there is one."""

    def __init__(self, repository: Repository) -> None:
        from huggingface_hub import get_token
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

        self.repository = repository
        self.endpoint = hub_endpoint()
        self.has_token = get_token() is not None
        self.headers: dict[str, str] = build_hf_headers(library_name="octavo", library_version=version("octavo"))

    def listing(self) -> Listing:
        """The files at the wanted revision.

        Raises ModelNotFoundError, DownloadError, and UnreachableError when there is no network.
        """
        repo, revision = self.repository.id, quote(self.repository.revision, safe="")
        url = f"{self.endpoint}/api/models/{repo}/revision/{revision}?blobs=true"
        response = request("GET", url, self.headers)
        if response.status_code != 200:
            raise self._refusal(response)
        try:
            answer = response.json()
            entries = [_entry(sibling) for sibling in answer["siblings"]]
            commit = answer["sha"]
        except (ValueError, KeyError, TypeError):
            raise DownloadError(f"{url}: the answer is not that of a Hub; check HF_ENDPOINT") from None
        if not isinstance(commit, str) or not re.fullmatch(r"[0-9a-f]{40}", commit):
            raise DownloadError(f"{url}: the answer names no commit; check HF_ENDPOINT")
        return Listing(commit, {entry.name: entry for entry in entries})

    def complete(self, entry: Entry, commit: str) -> Entry:
        """The entry with size and checksum, asked for one by one where the listing lacked them."""
        if entry.size is not None and entry.checksum is not None:
            return entry
        headers = {**self.headers, "Accept-Encoding": "identity"}
        response = request("HEAD", self._url(entry.name, commit), headers, redirects=False)
        if response.status_code >= 400:
            raise self._refusal(response, entry.name)
        stated = response.headers
        checksum = (stated.get("x-linked-etag") or stated.get("etag") or "").strip('W/"')
        length = stated.get("x-linked-size") or stated.get("content-length") or ""
        if not _CHECKSUM.match(checksum):
            raise DownloadError(f"{self._url(entry.name, commit)}: the server gives no checksum (ETag) for it")
        return Entry(entry.name, int(length) if length.isdigit() else None, checksum)

    def fetch(self, cache: RepositoryCache, commit: str, entry: Entry, bar: Any) -> None:
        """Bring a file into the cache, under its name in the commit's snapshot."""
        assert entry.checksum is not None
        blob = cache.blob(entry.checksum)
        if blob.exists() and entry.size is not None and blob.stat().st_size != entry.size:
            blob.unlink()  # named by its hash, so a wrong size is damage
        if not blob.exists() and (entry.size or 0) > LARGEST_OVER_HTTP_BYTES:
            self._fetch_huge(cache, commit, entry)
        if not blob.exists():
            url = self._url(entry.name, commit)
            remote = RemoteFile(url, self.headers, entry.size, entry.checksum)
            fetch(remote, blob, bar, lambda response: self._refusal(response, entry.name))
        cache.link(commit, entry.name, entry.checksum)

    def _fetch_huge(self, cache: RepositoryCache, commit: str, entry: Entry) -> None:
        """Have the Hub's own library bring a file that its servers do not hand out over plain HTTP."""
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError

        name, root = entry.name, cache.folder.parent
        try:
            hf_hub_download(self.repository.id, name, revision=commit, cache_dir=root, endpoint=self.endpoint)
        except (HfHubHTTPError, OSError, ValueError) as error:
            raise DownloadError(f"{self._url(name, commit)}: {error}") from error
        blob = cache.blob(str(entry.checksum))
        with blob.open("rb") as stream:
            if checksum_holds(stream, entry.checksum):
                return
        blob.unlink()
        raise DownloadError(f"{self._url(name, commit)}: the content does not match its checksum")

    def _url(self, name: str, commit: str) -> str:
        return f"{self.endpoint}/{self.repository.id}/resolve/{commit}/{quote(name)}"

    def _refusal(self, response: Any, name: str | None = None) -> OctavoError:
        repo, status = self.repository.id, response.status_code
        code = response.headers.get("x-error-code", "")
        page = f"{self.endpoint}/{repo}"
        if code == "RevisionNotFound":
            return ModelNotFoundError(f"{repo} has no branch, tag or commit {self.repository.revision!r}")
        if code == "GatedRepo" or status == 403:
            token = f"set HF_TOKEN to a token of your account (from {self.endpoint}/settings/tokens)"
            if self.has_token:
                token = "the account of your HF_TOKEN has no access yet"
            return DownloadError(f"{repo} is gated: accept its terms at {page} first; {token}")
        if status == 404 and name is not None:
            return ModelNotFoundError(f"{self.repository} has no file {name}")
        if status in (401, 404):
            private = "your HF_TOKEN may not see it" if self.has_token else "if it is private, set HF_TOKEN"
            return ModelNotFoundError(f"no model {repo} at {self.endpoint} ({private}).{self._suggestions()}")
        return _plain_refusal(response)

    def _suggestions(self) -> str:
        """Repositories with a similar name; empty when the Hub does not help."""
        url = f"{self.endpoint}/api/models?search={quote(self.repository.id.rpartition('/')[2])}&limit=5"
        try:
            response = request("GET", url, self.headers)
            found = [model["id"] for model in response.json()] if response.status_code == 200 else []
        except (DownloadError, ValueError, KeyError, TypeError):
            return ""
        return f" Did you mean {', '.join(map(str, found))}?" if found else ""


def _entry(sibling: Any) -> Entry:
    name, size = sibling["rfilename"], sibling.get("size")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts:
        raise ModelFormatError(name, "a file of this name in a repository listing is not accepted")
    checksum = (sibling.get("lfs") or {}).get("sha256") or sibling.get("blobId")
    known = isinstance(checksum, str) and _CHECKSUM.match(checksum) is not None
    return Entry(path.as_posix(), size if isinstance(size, int) else None, checksum if known else None)


def _plain_refusal(response: Any) -> OctavoError:
    status, url = response.status_code, response.url
    if status == 404:
        return ModelNotFoundError(f"{url}: there is no such file (HTTP 404)")
    if status in (401, 403):
        return DownloadError(f"{url}: access denied (HTTP {status})")
    if status == 429:
        return DownloadError(f"{url}: too many requests (HTTP 429); try again later")
    return DownloadError(f"{url}: the server answered HTTP {status}")


def fetch_url(url: str, directory: Path, *, progress: bool, refresh: bool) -> Path:
    """The local copy of a GGUF file at a URL (of all parts of a split one; the path is that of the first).

    Raises DownloadError or ModelNotFoundError.
    """
    url = url.partition("#")[0]
    split = _SPLIT_URL.search(urlsplit(url).path)
    if split is None:
        return _fetch_one_url(url, directory, progress, refresh)
    count = int(split[2])
    parts = (url.replace(split[0], f"-{number:05d}-of-{split[2]}.gguf") for number in range(1, count + 1))
    paths = [_fetch_one_url(part, directory, progress, refresh) for part in parts]
    return paths[0]


def _fetch_one_url(url: str, directory: Path, progress: bool, refresh: bool) -> Path:
    parts = urlsplit(url)
    file_name = unquote(PurePosixPath(parts.path).name)
    # Parts of a split file share a folder; queries (signatures, tokens) are no part of a file's identity.
    place = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{_SPLIT_URL.sub('', parts.path)}"
    folder = directory / (parts.hostname or "") / hashlib.sha256(place.encode()).hexdigest()[:16]
    path, note = folder / file_name, folder / f"{file_name}.source.json"
    if path.exists() and (is_offline() or not refresh):
        return path
    if is_offline():
        raise ModelNotFoundError(f"{url} was never fetched, and HF_HUB_OFFLINE forbids to do so now")
    remote = _stated_by_server(url)
    if path.exists() and remote.etag is not None and remote.etag == _noted_etag(note):
        return path
    # A newer version is fetched beside the old one and takes its place only when it is whole.
    target = folder / f"{file_name}.new" if path.exists() else path
    if remote.etag is None:
        partial_path(target).unlink(missing_ok=True)  # nothing tells whether it belongs to what is there now
    with progress_bar(file_name, progress) as bar:
        bar.total = remote.size
        fetch(remote, target, bar, _plain_refusal)
    target.replace(path)
    for leftover in folder.glob(f"{glob.escape(file_name)}*{PARTIAL_ENDING}"):
        leftover.unlink(missing_ok=True)  # of older versions
    note.write_text(json.dumps({"url": place, "etag": remote.etag}), "utf-8")
    return path


def _stated_by_server(url: str) -> RemoteFile:
    """Size, hash and version of a file as far as the server tells them before the download."""
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    endpoint = urlsplit(hub_endpoint())
    own = (endpoint.scheme, endpoint.netloc) == urlsplit(url)[:2]
    headers = build_hf_headers(token=None if own else False, library_name="octavo", library_version=version("octavo"))
    response = request("HEAD", url, {**headers, "Accept-Encoding": "identity"})
    if response.status_code >= 400:
        return RemoteFile(url, headers)  # some servers refuse HEAD alone; GET will tell
    stated = all_headers(response)
    etag = response.headers.get("etag")
    linked = stated.get("x-linked-etag") or etag or ""
    checksum = linked.strip('W/"')
    length = stated.get("x-linked-size") or response.headers.get("content-length") or ""
    return RemoteFile(
        url,
        headers,
        size=int(length) if length.isdigit() else None,
        checksum=checksum if re.fullmatch(r"[0-9a-f]{64}", checksum) else None,
        etag=etag if etag and not etag.startswith("W/") else None,
    )


def _noted_etag(note: Path) -> str | None:
    try:
        etag = json.loads(note.read_text("utf-8")).get("etag")
    except (OSError, ValueError, AttributeError):
        return None
    return etag if isinstance(etag, str) else None
