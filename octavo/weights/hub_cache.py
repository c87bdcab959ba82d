"""The Hugging Face cache on disk: where a repository's files lie, and which of them are there.

Owns the paths and links of the standard layout (refs, snapshots, blobs), so that what other tools fetched is found
and what is fetched here is found by them. Does not know the network. Beside it, Octavo notes the full list of a
commit's files, from which it can later tell, without the network, that nothing is missing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_COMMIT = re.compile(r"^[0-9a-f]{40}$")


@dataclass(frozen=True)
class Repository:
    """A model repository at the Hub and the revision wanted (branch, tag or commit)."""

    id: str
    revision: str

    def __str__(self) -> str:
        return self.id if self.revision == "main" else f"{self.id}@{self.revision}"


def cache_root() -> Path:
    """The Hub cache: HF_HUB_CACHE, else hub/ in HF_HOME, else the user's cache folder."""
    env = os.environ
    if explicit := env.get("HF_HUB_CACHE") or env.get("HUGGINGFACE_HUB_CACHE"):
        return Path(os.path.expandvars(explicit)).expanduser()
    cache = Path(env.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    home = Path(os.path.expandvars(env.get("HF_HOME") or str(cache / "huggingface"))).expanduser()
    return home / "hub"


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE (or TRANSFORMERS_OFFLINE) forbids the network."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in ("1", "ON", "YES", "TRUE")


class RepositoryCache:
    """One repository's folder in the cache."""

    def __init__(self, repository: Repository, root: Path) -> None:
        self.repository = repository
        self.folder = root / f"models--{repository.id.replace('/', '--')}"

    def commit(self) -> str | None:
        """The commit that the revision meant when it was last fetched; None when it never was."""
        revision = self.repository.revision
        if _COMMIT.match(revision):
            return revision if self.snapshot(revision).is_dir() else None
        ref = self.folder / "refs" / revision
        commit = ref.read_text("utf-8").strip() if ref.is_file() else ""
        return commit if _COMMIT.match(commit) else None

    def snapshot(self, commit: str) -> Path:
        """The folder with a commit's files under their own names."""
        return self.folder / "snapshots" / commit

    def present(self, commit: str) -> list[str]:
        """Names of the commit's files that are there (links whose content is missing do not count)."""
        root = self.snapshot(commit)
        paths = (Path(top) / name for top, _, names in os.walk(root) for name in names)
        return sorted(path.relative_to(root).as_posix() for path in paths if path.exists())

    def listing(self, commit: str) -> list[str] | None:
        """Names of all files of the commit as noted by `note_listing`; None when they never were."""
        try:
            names = json.loads(self._listing_path(commit).read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return [name for name in names if isinstance(name, str)] if isinstance(names, list) else None

    def note_listing(self, commit: str, names: Iterable[str]) -> None:
        """Keep the names of all files of the commit."""
        _write_whole(self._listing_path(commit), json.dumps(sorted(names), indent=0))

    def _listing_path(self, commit: str) -> Path:
        return self.folder / ".octavo" / f"{commit}.json"

    def blob(self, checksum: str) -> Path:
        """Where the content with this checksum lies."""
        return self.folder / "blobs" / checksum

    def link(self, commit: str, name: str, checksum: str) -> None:
        """Put a blob under its name in the commit's snapshot (by content where links are not possible)."""
        pointer = self.snapshot(commit) / name
        pointer.parent.mkdir(parents=True, exist_ok=True)
        blob, temporary = self.blob(checksum), _beside(pointer)
        try:
            temporary.symlink_to(os.path.relpath(blob, pointer.parent))
        except OSError:
            shutil.copyfile(blob, temporary)
        temporary.replace(pointer)

    def set_commit(self, commit: str) -> None:
        """Note which commit the revision means now."""
        if self.repository.revision != commit:
            _write_whole(self.folder / "refs" / self.repository.revision, commit)


def _beside(path: Path) -> Path:
    """A name of our own in the same folder, to be moved to `path` when it is whole."""
    return path.with_name(f"{path.name}.{uuid.uuid4().hex[:12]}.tmp")


def _write_whole(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    temporary.write_text(text, "utf-8")
    temporary.replace(path)
