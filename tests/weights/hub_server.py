"""A stand-in for the Hub and its CDN on this machine, with faults on demand.

Serves what the real one serves to a downloader: listings, resolve addresses that redirect large files to another
origin, ETags, ranges, refusals of gated and unknown repositories, rate limits, bodies that break off.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".gguf", ".bin")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Repo:
    """A repository: files, revisions (name -> commit), and who may read it."""

    files: dict[str, bytes]
    revisions: dict[str, str] = field(default_factory=lambda: {"main": "a" * 40})
    gated_for: str | None = None  # the one token that may read the files
    private: bool = False
    lists_blobs: bool = True


@dataclass
class Fault:
    """What goes wrong with requests whose path ends in `path`, `times` times (-1: always)."""

    path: str
    times: int = 1
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None  # bytes of the body that are sent before the connection breaks off
    corrupt: bool = False
    ignore_range: bool = False
    method: str = "GET"


@dataclass
class Seen:
    """A request that was made."""

    method: str
    path: str
    headers: dict[str, str]


class HubServer:
    """The running server. `url` is the Hub's endpoint; the CDN is the same server under another host name."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.plain: dict[str, bytes] = {}  # path -> content, for plain URLs
        self.etags: dict[str, str] = {}
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.cdn = f"http://localhost:{self.server.server_port}/cdn"

    def paths(self, method: str = "GET") -> list[str]:
        return [seen.path for seen in self.seen if seen.method == method]

    def fetched(self, name: str) -> list[Seen]:
        """GET requests for the content of a repository file (for large ones those at the CDN)."""
        ends = {f"/{name}"}
        if name.endswith(LARGE):
            ends = {f"/cdn/{sha256(repo.files[name])}" for repo in self.repos.values() if name in repo.files}
        return [seen for seen in self.seen if seen.method == "GET" and seen.path.endswith(tuple(ends))]

    def take_fault(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.method == method and path.endswith(fault.path) and fault.times != 0:
                    fault.times -= 1
                    return fault
        return None

    def by_hash(self, digest: str) -> bytes:
        return next(d for repo in self.repos.values() for d in repo.files.values() if sha256(d) == digest)


@contextmanager
def running_hub() -> Iterator[HubServer]:
    hub = HubServer()
    thread = threading.Thread(target=hub.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        hub.server.shutdown()
        hub.server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer("HEAD")

    def do_GET(self) -> None:
        self.answer("GET")

    def answer(self, method: str) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        self.hub.seen.append(Seen(method, path, {k.lower(): v for k, v in self.headers.items()}))
        fault = self.hub.take_fault(method, path)
        if fault is not None and fault.status is not None:
            self.reply(fault.status, b"{}", fault.headers)
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/(.+)", path):
            self.listing(match[1], match[2])
        elif path == "/api/models":
            search = url.query.partition("search=")[2].partition("&")[0]
            found = [{"id": name} for name in self.hub.repos if search[:4].lower() in name.lower()]
            self.reply(200, json.dumps(found).encode())
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.resolve(match[1], match[2], match[3], fault)
        elif match := re.fullmatch(r"/cdn/([0-9a-f]{64})", path):
            self.content(self.hub.by_hash(match[1]), {"ETag": '"cdn-etag"'}, fault)
        elif path in self.hub.plain:
            etag = self.hub.etags.get(path)
            self.content(self.hub.plain[path], {"ETag": etag} if etag else {}, fault)
        else:
            self.reply(404, b"no such page")

    def access(self, name: str, *, files: bool) -> Repo | None:
        """The repository, or None after a refusal was sent."""
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and "authorization" not in self.headers):
            code = 404 if "authorization" in self.headers else 401
            self.reply(code, b"{}", {"X-Error-Code": "RepoNotFound"})
            return None
        if files and repo.gated_for and self.headers.get("authorization") != f"Bearer {repo.gated_for}":
            code = 403 if "authorization" in self.headers else 401
            self.reply(code, b"{}", {"X-Error-Code": "GatedRepo"})
            return None
        return repo

    def listing(self, name: str, revision: str) -> None:
        repo = self.access(name, files=False)
        if repo is None:
            return
        commit = repo.revisions.get(revision) or (revision if revision in repo.revisions.values() else None)
        if commit is None:
            self.reply(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            return
        siblings: list[dict[str, object]] = []
        for file, data in repo.files.items():
            entry: dict[str, object] = {"rfilename": file}
            if repo.lists_blobs:
                entry |= {"size": len(data), "blobId": git_blob(data)}
                if file.endswith(LARGE):
                    entry["lfs"] = {"sha256": sha256(data), "size": len(data), "pointerSize": 130}
            siblings.append(entry)
        self.reply(200, json.dumps({"id": name, "sha": commit, "siblings": siblings}).encode())

    def resolve(self, name: str, revision: str, file: str, fault: Fault | None) -> None:
        repo = self.access(name, files=True)
        if repo is None:
            return
        data = repo.files.get(file)
        commit = repo.revisions.get(revision, revision)
        if data is None:
            self.reply(404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        elif file.endswith(LARGE):
            headers = {"X-Repo-Commit": commit, "X-Linked-ETag": f'"{sha256(data)}"', "X-Linked-Size": str(len(data))}
            self.reply(302, b"", {**headers, "Location": f"{self.hub.cdn}/{sha256(data)}"})
        else:
            self.content(data, {"X-Repo-Commit": commit, "ETag": f'"{git_blob(data)}"'}, fault)

    def content(self, data: bytes, headers: dict[str, str], fault: Fault | None) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("range", ""))
        if_range = self.headers.get("if-range")
        if (fault is not None and fault.ignore_range) or (if_range and if_range != headers.get("ETag")):
            wanted = None
        start = int(wanted[1]) if wanted else 0
        if wanted and start >= len(data):
            self.reply(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            return
        if wanted:
            headers = {**headers, "Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        body = data[start:]
        if fault is not None and fault.corrupt:
            body = bytes(byte ^ 1 for byte in body)
        self.reply(206 if wanted else 200, body, headers, None if fault is None else fault.cut_after)

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: int | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(body if cut is None else body[:cut])
        if cut is not None and cut < len(body):
            self.wfile.flush()
            self.close_connection = True
