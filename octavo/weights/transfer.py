"""One file over HTTP: resumed where it stopped, even in another process; checked by hash; moved into place whole.

Owns retries, waiting, ranges and verification. Does not know the Hub: what a refusal means is told by the caller.
Requests go through huggingface_hub's session, so that proxies and certificates set up for it hold here too.
"""

from __future__ import annotations

import contextlib
import email.utils
import fcntl
import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from octavo.base.errors import DownloadError, OctavoError

ATTEMPTS = 5
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 300.0
TIMEOUT_S = 30.0
UNREACHABLE_ATTEMPTS = 2
UNREACHABLE_TIMEOUT_S = 10.0
PARTIAL_ENDING = ".octavo-part"
_RETRIED_STATUS = (408, 429, 500, 502, 503, 504)
_CHUNK_BYTES = 1 << 20
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class UnreachableError(DownloadError):
    """The server could not be reached at all."""


@dataclass(frozen=True)
class RemoteFile:
    """A file to fetch. `checksum` is a SHA-256 (64 hex digits) or a git blob id (40), None where unknown.

    With `etag` given, a partial file is continued only while the server still has that version.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    size: int | None = None
    checksum: str | None = None
    etag: str | None = None


Refusal = Callable[[Any], OctavoError]
"""Turns a response with an error status into the error to raise."""


def request(method: str, url: str, headers: Mapping[str, str], *, redirects: bool = True) -> Any:
    """One small request, its body read; waits and retries as `fetch`, but gives up soon when there is no network.

    Raises UnreachableError, DownloadError.
    """
    for attempt in range(ATTEMPTS):
        last = attempt + 1 == ATTEMPTS
        response: Any = None
        try:
            with _opened(method, url, headers, UNREACHABLE_TIMEOUT_S, redirects) as response:
                response.read()
        except UnreachableError:
            if attempt + 1 >= min(UNREACHABLE_ATTEMPTS, ATTEMPTS):
                raise
        if response is not None and (last or response.status_code not in _RETRIED_STATUS):
            return response
        time.sleep(_wait_s(response, attempt))
    raise AssertionError("the last attempt returns or raises")


def progress_bar(label: str, shown: bool) -> Any:
    """A bar that counts bytes, on standard error."""
    from tqdm import tqdm

    options = {"unit": "B", "unit_scale": True, "unit_divisor": 1024, "miniters": 1}
    return tqdm(desc=label, disable=not shown, **options)


def partial_path(destination: Path, etag: str | None = None) -> Path:
    """Where the bytes of one version fetched so far wait while `destination` is not whole."""
    version = f".{hashlib.sha256(etag.encode()).hexdigest()[:12]}" if etag else ""
    return destination.with_name(f"{destination.name}{version}{PARTIAL_ENDING}")


def fetch(file: RemoteFile, destination: Path, bar: Any, refusal: Refusal) -> Mapping[str, str]:
    """Bring `file` to `destination`, which appears only when it is whole and its checksum holds.

    What was fetched before an interruption waits beside it and is continued. Another process that fetches the same
    file is waited for. Returns the headers of the first response, those of redirects included (lower-case names).

    Raises DownloadError when the server keeps failing, the disk is full, or the content is not what it should be;
    what `refusal` gives for other error statuses.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_path(destination, file.etag)
    with _locked(partial, destination) as stream:
        if stream is None:
            bar.update(destination.stat().st_size)
            return {}
        transfer = _Transfer(file, stream, bar, refusal)
        for _ in range(2):
            transfer.run()
            if checksum_holds(stream, file.checksum):
                partial.replace(destination)
                return transfer.headers
            transfer.restart()
    raise DownloadError(f"{file.url}: the content does not match its checksum {file.checksum}, fetched twice")


def all_headers(response: Any) -> dict[str, str]:
    """Headers of the final response, with those of redirects before it in front (the Hub's own say what it is)."""
    merged: dict[str, str] = {}
    for one in (*response.history, response):
        for key, value in one.headers.items():
            merged.setdefault(key.lower(), value)
    return merged


class _Transfer:
    """The state of one file's download into an open partial file."""

    def __init__(self, file: RemoteFile, stream: BinaryIO, bar: Any, refusal: Refusal) -> None:
        self.file = file
        self.stream = stream
        self.bar = bar
        self.refusal = refusal
        self.headers: Mapping[str, str] = {}
        self.size = file.size
        self.have = stream.seek(0, os.SEEK_END)
        bar.update(self.have)

    def restart(self) -> None:
        """Forget what is there."""
        self.bar.update(-self.have)
        self.stream.seek(0)
        self.stream.truncate()
        self.have = 0

    def run(self) -> None:
        """Fetch what is missing, resuming after every break as long as there is progress."""
        best, failures = self.have, 0
        while self.size is None or self.have != self.size:
            if self.size is not None and self.have > self.size:
                self.restart()
            response: Any = None
            problem = "the connection broke off"
            try:
                with _opened("GET", self.file.url, self._request_headers(), TIMEOUT_S) as response:
                    self._take(response)
                if response.status_code in _RETRIED_STATUS:
                    problem = f"HTTP {response.status_code}"
                elif self.size is None:
                    return  # no length was announced, and the body ended in order
            except UnreachableError as error:
                problem = str(error)
            failures = 0 if self.have > best else failures + 1
            best = max(best, self.have)
            if self.have != self.size:
                if failures >= ATTEMPTS:
                    done = f"{self.have} of {self.size or 'unknown'} bytes are kept for the next try"
                    raise DownloadError(f"{self.file.url}: {problem}, {failures} times without progress; {done}")
                time.sleep(_wait_s(response, failures))

    def _request_headers(self) -> dict[str, str]:
        headers = {**self.file.headers, "Accept-Encoding": "identity"}
        if self.have:
            headers["Range"] = f"bytes={self.have}-"
            if self.file.etag:
                headers["If-Range"] = self.file.etag
        return headers

    def _take(self, response: Any) -> None:
        """Append a response's body, or start again where the server cannot continue."""
        status = response.status_code
        if status in _RETRIED_STATUS:
            return
        if status == 416:
            self.restart()
            return
        if status not in (200, 206):
            response.read()
            raise self.refusal(response)
        if not self.headers:
            self.headers = all_headers(response)
        content_range = _CONTENT_RANGE.match(response.headers.get("content-range", ""))
        resumed = status == 206 and content_range is not None and int(content_range[1]) == self.have
        if self.have and not resumed:
            self.restart()
        if status == 206 and not resumed:
            return
        if self.size is None and "content-encoding" not in response.headers:
            length = content_range[2] if content_range else response.headers.get("content-length", "")
            self.size = int(length) if length.isdigit() else None
            self.bar.total = (self.bar.total or 0) + (self.size or 0)
        _check_space(self.stream, (self.size or 0) - self.have)
        for chunk in response.iter_bytes():
            self.stream.write(chunk)
            self.have += len(chunk)
            self.bar.update(len(chunk))
        self.stream.flush()


@contextlib.contextmanager
def _opened(
    method: str, url: str, headers: Mapping[str, str], timeout_s: float, redirects: bool = True
) -> Iterator[Any]:
    from huggingface_hub import get_session

    session = get_session()
    transport_error = _transport_error(session)
    try:
        opened = session.stream(method, url, headers=dict(headers), follow_redirects=redirects, timeout=timeout_s)
        with opened as response:
            yield response
    except transport_error as error:
        raise UnreachableError(f"cannot reach {url} ({error or type(error).__name__})") from None


def _transport_error(session: Any) -> type[Exception]:
    # huggingface_hub 1 is built on httpx, 2 on its successor httpx2; both name their errors alike.
    home = next(base.__module__ for base in type(session).__mro__ if base.__name__ == "Client")
    error: type[Exception] = sys.modules[home.partition(".")[0]].TransportError
    return error


def _wait_s(response: Any, attempt: int) -> float:
    """Seconds to wait before the next attempt: what the server asks for, else doubling."""
    asked = response.headers.get("retry-after", "") if response is not None else ""
    if asked.isdigit():
        wait_s = float(asked)
    elif date := email.utils.parsedate_tz(asked):
        wait_s = max(0.0, email.utils.mktime_tz(date) - time.time())
    else:
        return float(min(FIRST_WAIT_S * 2**attempt, 30.0))
    if wait_s > LONGEST_WAIT_S:
        raise DownloadError(f"{response.url}: the server asks to come back in {wait_s:.0f} seconds")
    return wait_s


@contextlib.contextmanager
def _locked(partial: Path, destination: Path) -> Iterator[BinaryIO | None]:
    """The partial file, open and ours alone; None when another process finished it while we waited."""
    while True:
        with partial.open("ab+") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            if destination.exists():
                if _is_same_file(stream, partial):
                    partial.unlink()
                yield None
                return
            if _is_same_file(stream, partial):
                yield stream
                return


def _is_same_file(stream: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except FileNotFoundError:
        return False


def checksum_holds(stream: BinaryIO, checksum: str | None) -> bool:
    """Whether a file's content has this SHA-256 or git blob id (None: nothing to compare with)."""
    if checksum is None:
        return True
    size = stream.seek(0, os.SEEK_END)
    # A git blob id covers a short header in front of the content.
    digest = hashlib.sha256() if len(checksum) == 64 else hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    stream.seek(0)
    while chunk := stream.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest() == checksum


def _check_space(stream: BinaryIO, needed: int) -> None:
    free = shutil.disk_usage(Path(stream.name).parent).free
    if needed > free:
        gib = 1 << 30
        where = Path(stream.name).parent
        raise DownloadError(f"{where}: {needed / gib:.2f} GiB are needed, {free / gib:.2f} GiB are free")
