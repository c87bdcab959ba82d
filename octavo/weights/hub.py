"""Names to files: a path, an https URL of a GGUF file, an alias of a local model, or a Hub repository.

Owns the reading of names and the order in which they are tried. The network is touched by `hub_client` alone,
imported only when something must be fetched.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from octavo.base.config import EngineArgs
from octavo.base.errors import ConfigError, ModelFormatError, ModelNotFoundError
from octavo.weights.safetensors import PICKLES, no_weights_error, pickle_error
from octavo.weights.selection import GGUFChoice, choose_gguf, first_part, gguf_choices

DEMO_ALIAS = "octavo-demo"
_REPOSITORY = re.compile(
    r"^(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[^:@\s]+))?(:(?P<tag>[^:@\s]+))?$"
)
_HUB_PREFIXES = ("https://huggingface.co/", "https://hf.co/", "huggingface.co/", "hf.co/")
_GGUF_MAGIC = b"GGUF"


@dataclass(frozen=True)
class ModelFiles:
    """A model on disk: `name` as asked for, `path` the folder ("hf") or the first GGUF file ("gguf")."""

    name: str
    kind: Literal["hf", "gguf"]
    path: Path


def resolve(
    name: str,
    *,
    revision: str | None = None,
    download_dir: Path | None = None,
    progress: bool = True,
    refresh: bool = False,
) -> ModelFiles:
    """The files of a model, fetched if they are not here yet.

    Names: a path; an https URL of a GGUF file; an alias (`octavo-demo`, or one of OCTAVO_HOME/aliases.json);
    `org/name` at the Hub, with `@revision` and, for one GGUF file among several, `:Q4_K_M`. What was once
    fetched is used without asking the network again, unless `refresh`. `download_dir` takes the place of the
    Hugging Face cache (and of OCTAVO_HOME/downloads for URLs). HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE and HF_HOME
    are honoured.

    Raises ModelNotFoundError (nothing of that name; says what there is), DownloadError (network, access, damage
    in transfer), ModelFormatError (files that are no model), ConfigError (a broken alias file, contradicting
    revisions).
    """
    target = _follow_aliases(name)
    if (url := _as_url(target)) is not None:
        _refuse_revision(name, revision)
        from octavo.weights.hub_client import fetch_url

        directory = download_dir or octavo_home() / "downloads"
        return ModelFiles(name, "gguf", fetch_url(url, directory, progress=progress, refresh=refresh))
    path = Path(target).expanduser()
    if target and path.exists():
        _refuse_revision(name, revision)
        return _local(name, path)
    for prefix in _HUB_PREFIXES:
        target = target.removeprefix(prefix)
    match = _REPOSITORY.match(target)
    if match is None or match["repo"].endswith((".gguf", *PICKLES)):
        raise _not_found(name, path)
    if revision and match["revision"] and revision != match["revision"]:
        raise ConfigError(f"{name} names the revision {match['revision']}, but revision={revision!r} was given too")
    from octavo.weights.hub_cache import Repository
    from octavo.weights.hub_repository import find_model

    repository = Repository(match["repo"], match["revision"] or revision or "main")
    if any(part in ("", ".", "..") for part in repository.revision.split("/")):
        raise ConfigError(f"{repository.revision!r} is not the name of a revision")
    kind, found = find_model(repository, match["tag"], download_dir, progress=progress, refresh=refresh)
    return ModelFiles(name, kind, found)


def find_files(args: EngineArgs) -> ModelFiles:
    """The files of the model that `args` names, fetched if they are not here yet; errors as `resolve`."""
    directory = Path(args.download_dir).expanduser() if args.download_dir else None
    return resolve(args.model, revision=args.revision, download_dir=directory)


def octavo_home() -> Path:
    """Octavo's own folder: OCTAVO_HOME, by default `.octavo` in the user's home."""
    return Path(os.environ.get("OCTAVO_HOME") or "~/.octavo").expanduser()


def aliases() -> dict[str, str]:
    """All aliases: the demo model and those of the user's `aliases.json` (name -> any name that resolves).

    Raises ConfigError when the file is not a JSON object of strings.
    """
    demo = Path(__file__).parents[1] / "demo" / f"{DEMO_ALIAS}.gguf"
    return {DEMO_ALIAS: str(demo), **_user_aliases(octavo_home() / "aliases.json")}


def _user_aliases(path: Path) -> dict[str, str]:
    if not path.exists():
        return {}
    try:
        entries = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(entries, dict) or not all(isinstance(value, str) for value in entries.values()):
        raise ConfigError(f'{path} must be a JSON object of names and models, as {{"mine": "/path/m.gguf"}}')
    return entries


def _follow_aliases(name: str) -> str:
    known = aliases()
    seen = [name]
    while (target := known.get(seen[-1])) is not None:
        if target in seen:
            raise ConfigError(f"the alias {name!r} leads in a circle: {' -> '.join([*seen, target])}")
        seen.append(target)
    return seen[-1]


def _as_url(target: str) -> str | None:
    """The download address when `target` is a URL of a GGUF file; None for names of other kinds."""
    scheme, _, _ = target.partition("://")
    if scheme not in ("http", "https") or "://" not in target:
        return None
    parts = urlsplit(target)
    if not parts.path.lower().endswith(".gguf"):
        if target.startswith(_HUB_PREFIXES):
            return None
        raise ModelNotFoundError(f"{target}: a URL must name a .gguf file; for a repository write org/name")
    if scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise ModelNotFoundError(f"{target}: models are fetched over https only (http from this machine itself)")
    if target.startswith(_HUB_PREFIXES):
        # The page that shows a file and the file itself differ by one word.
        target = target.replace("/blob/", "/resolve/", 1)
    return target


def _refuse_revision(name: str, revision: str | None) -> None:
    if revision is not None:
        raise ConfigError(f"revision={revision!r} belongs to Hub repositories; {name} is a file or folder")


def _local(name: str, path: Path) -> ModelFiles:
    return _local_folder(name, path) if path.is_dir() else _local_file(name, path)


def _local_file(name: str, path: Path) -> ModelFiles:
    with path.open("rb") as file:
        magic = file.read(len(_GGUF_MAGIC))
    if magic == _GGUF_MAGIC or path.suffix.lower() == ".gguf":
        first = path.with_name(first_part(path.name))
        return ModelFiles(name, "gguf", first if first.exists() else path)
    if path.suffix in PICKLES:
        raise pickle_error(path)
    if path.suffix == ".safetensors":
        return _local_folder(name, path.parent)
    raise ModelFormatError(path, "neither a GGUF file nor a folder with config.json and safetensors files")


def _local_folder(name: str, path: Path) -> ModelFiles:
    names = [entry.name for entry in path.iterdir() if entry.is_file()]
    if any(entry.endswith(".safetensors") for entry in names):
        if "config.json" not in names:
            raise ModelFormatError(path, "config.json is missing beside the safetensors files")
        return ModelFiles(name, "hf", path)
    if choices := gguf_choices(names):
        return ModelFiles(name, "gguf", path / _one_gguf(path, choices).files[0])
    raise no_weights_error(path)


def _one_gguf(path: Path, choices: list[GGUFChoice]) -> GGUFChoice:
    if len(choices) > 1:
        listed = ", ".join(choice.label for choice in choices[:24])
        raise ModelNotFoundError(f"{path} holds several GGUF models; name the file: {listed}")
    return choose_gguf(str(path), choices, None)


def _not_found(name: str, path: Path) -> ModelNotFoundError:
    if name == DEMO_ALIAS:
        return ModelNotFoundError(f"this installation lacks its demo model ({path})")
    candidates = list(aliases())
    if path.parent.is_dir():
        candidates += [str(path.parent / entry.name) for entry in path.parent.iterdir()]
    close = difflib.get_close_matches(name, candidates, n=3)
    hint = f" Did you mean {' or '.join(close)}?" if close else ""
    kinds = "no file, folder or alias of that name here, and Hub repositories are written org/name[:QUANT]."
    return ModelNotFoundError(f"{name}: {kinds}{hint}")
