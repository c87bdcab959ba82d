"""From a Hub repository to a model on disk: what is needed, what the cache has, and fetching the rest.

Owns the order of things: cache first, then the network, then the cache again when there is no network. Uses the
rules of `selection`; the requests are `hub_client`'s.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from octavo.base.errors import ModelFormatError, ModelNotFoundError
from octavo.weights.hub_cache import Repository, RepositoryCache, cache_root, is_offline
from octavo.weights.safetensors import INDEX, PICKLES, SINGLE, read_index
from octavo.weights.selection import choose_gguf, gguf_choices, has_tokenizer, side_files

if TYPE_CHECKING:
    from octavo.weights.hub_client import HubClient, Listing

logger = logging.getLogger(__name__)

Kind = Literal["hf", "gguf"]


@dataclass(frozen=True)
class _Wanted:
    """What makes up the model: `files` by name; for "hf" the weights follow from them (see `_weight_files`)."""

    kind: Kind
    files: tuple[str, ...]


def find_model(
    repository: Repository, tag: str | None, download_dir: Path | None, *, progress: bool, refresh: bool
) -> tuple[Kind, Path]:
    """The kind of a repository's model and its path in the cache, fetched as far as it is not there.

    `tag` picks one GGUF file among several. With `refresh` the Hub is asked for a newer commit even when nothing is
    missing. Raises ModelNotFoundError, DownloadError, ModelFormatError.
    """
    root = download_dir or cache_root()
    cache = RepositoryCache(repository, root)
    if not refresh and (found := _cached(cache, tag, listed=True)):
        return found
    if is_offline():
        if found := _cached(cache, tag, listed=False):
            return found
        quant = f":{tag}" if tag else ""
        raise ModelNotFoundError(f"{repository}{quant} is not in {root}, and HF_HUB_OFFLINE forbids to fetch it")
    from octavo.weights.hub_client import HubClient
    from octavo.weights.transfer import UnreachableError

    client = HubClient(repository)
    try:
        listing = client.listing()
    except UnreachableError as error:
        if found := _cached(cache, tag, listed=False):
            logger.warning("%s; using %s as it was fetched before", error, repository)
            return found
        raise
    return _fetched(client, listing, cache, tag, progress)


def _cached(cache: RepositoryCache, tag: str | None, *, listed: bool) -> tuple[Kind, Path] | None:
    """The model in the cache, if all of it is there.

    `listed` True goes by the noted list of the commit's files, which tells for sure; False by what is there (other
    tools leave no such note, and may have left files out that we would want).
    """
    commit = cache.commit()
    if commit is None:
        return None
    present = cache.present(commit)
    names = cache.listing(commit) if listed else present
    if names is None:
        return None
    folder = cache.snapshot(commit)
    try:
        wanted = _wanted(cache.repository, names, tag)
        if not set(wanted.files) <= set(present):
            return None
        if wanted.kind == "gguf":
            return "gguf", folder / wanted.files[0]
        complete = "config.json" in present and has_tokenizer(present)
        weights = _weight_files(folder, names)
    except (ModelNotFoundError, ModelFormatError):
        return None
    return ("hf", folder) if complete and set(weights) <= set(present) else None


def _wanted(repository: Repository, names: Sequence[str], tag: str | None) -> _Wanted:
    choices = gguf_choices(names)
    if tag is not None or (choices and SINGLE not in names and INDEX not in names):
        return _Wanted("gguf", choose_gguf(str(repository), choices, tag).files)
    if SINGLE in names or INDEX in names:
        return _Wanted("hf", tuple(side_files(names)))
    if pickles := [name for name in names if name.endswith(PICKLES)]:
        fix = "look for a safetensors or GGUF version of this model"
        raise ModelNotFoundError(
            f"{repository} holds pickled weights only ({pickles[0]}), which are never opened; {fix}"
        )
    raise ModelNotFoundError(f"{repository} holds no weights: neither {SINGLE}, {INDEX} nor a .gguf file")


def _weight_files(folder: Path, names: Sequence[str]) -> list[str]:
    """The safetensors files of a checkpoint whose side files are in `folder` already."""
    if INDEX in names:
        return sorted(set(read_index(folder / INDEX).values()))
    return [SINGLE]


def _fetched(
    client: HubClient, listing: Listing, cache: RepositoryCache, tag: str | None, progress: bool
) -> tuple[Kind, Path]:
    from octavo.weights.transfer import progress_bar

    commit, names = listing.commit, sorted(listing.entries)
    wanted = _wanted(cache.repository, names, tag)
    folder = cache.snapshot(commit)
    with progress_bar(str(cache.repository), progress) as bar:
        _fetch_all(client, listing, cache, wanted.files, bar)
        if wanted.kind == "hf":
            weights = _weight_files(folder, names)
            if absent := [name for name in weights if name not in listing.entries]:
                raise ModelFormatError(folder / INDEX, f"the repository lacks its shard {absent[0]}")
            _fetch_all(client, listing, cache, weights, bar)
    # The revision is moved and the list noted last: an interrupted download is taken up again by the next call.
    cache.set_commit(commit)
    cache.note_listing(commit, names)
    return wanted.kind, folder / wanted.files[0] if wanted.kind == "gguf" else folder


def _fetch_all(client: HubClient, listing: Listing, cache: RepositoryCache, names: Sequence[str], bar: Any) -> None:
    present = set(cache.present(listing.commit))
    entries = [client.complete(listing.entries[name], listing.commit) for name in names if name not in present]
    bar.total = (bar.total or 0) + sum(entry.size or 0 for entry in entries)
    bar.refresh()
    for entry in entries:
        client.fetch(cache, listing.commit, entry, bar)
