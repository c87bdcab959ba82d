"""Which files of a folder or repository make up a model, decided from their names alone.

Owns the grouping of split GGUF files, the matching of quantization tags, and the list of Hugging Face files
worth having. Does not touch disk or network.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from octavo.base.errors import ModelNotFoundError

DEFAULT_QUANT = "Q4_K_M"
"""The GGUF file taken when a repository holds several and none is named."""

_SPLIT = re.compile(r"^(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf$", re.IGNORECASE)
_NOT_MODELS = re.compile(r"(^|[/._-])(mmproj|imatrix)([._-]|$)", re.IGNORECASE)
_SIDE_FILES = re.compile(r"^[^/]+\.(json|jinja)$|^additional_chat_templates/[^/]+\.jinja$")
_TOKENIZER_FILES = ("tokenizer.model", "vocab.txt", "merges.txt")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
_PICKLE_INDEX = re.compile(r"\.(bin|pt|pth)\.index\.json$|^(tf_model|flax_model)")


@dataclass(frozen=True)
class GGUFChoice:
    """One GGUF model: its files (one, or all parts in order), and its name without endings."""

    stem: str
    files: tuple[str, ...]
    num_parts: int

    @property
    def label(self) -> str:
        """How to show it in a list of choices: the first file's name."""
        return self.files[0].rpartition("/")[2]


def gguf_choices(names: Iterable[str]) -> list[GGUFChoice]:
    """The GGUF models among file names (paths with slashes), without projectors and importance matrices."""
    groups: dict[tuple[str, int], list[str]] = {}
    for name in sorted(names):
        if not name.lower().endswith(".gguf") or _NOT_MODELS.search(name.rpartition("/")[2]):
            continue
        split = _SPLIT.match(name)
        key = (split["stem"], int(split["count"])) if split else (name[: -len(".gguf")], 1)
        groups.setdefault(key, []).append(name)
    return [GGUFChoice(stem, tuple(files), count) for (stem, count), files in groups.items()]


def first_part(name: str) -> str:
    """The name of the first part of the split file that `name` is a part of; other names as they are."""
    split = _SPLIT.match(name)
    return f"{split['stem']}-00001-of-{split['count']}.gguf" if split else name


def choose_gguf(place: str, choices: Sequence[GGUFChoice], tag: str | None) -> GGUFChoice:
    """The one that `tag` names (a quantization type or a file name, any case), or the default one.

    Raises ModelNotFoundError listing the choices when none or several fit, or when parts are missing.
    """
    if tag is None and len(choices) == 1:
        return _complete(place, choices[0])
    wanted = tag or DEFAULT_QUANT
    found = [choice for choice in choices if _fits(choice, wanted)]
    if len(found) == 1:
        return _complete(place, found[0])
    listed = ", ".join(choice.label for choice in (found or choices)[:24])
    if found:
        raise ModelNotFoundError(f"{place}: several GGUF files fit {wanted}; name one in full: {listed}")
    if tag is None:
        hint = "Name one by its quantization, as in NAME:Q8_0"
        raise ModelNotFoundError(f"{place} holds several GGUF files and no {wanted}. {hint}: {listed}")
    raise ModelNotFoundError(f"{place} holds no GGUF file for {tag!r}. There are: {listed or 'none'}")


def _fits(choice: GGUFChoice, tag: str) -> bool:
    stem, wanted = choice.stem.lower(), tag.lower().removesuffix(".gguf")
    if split := _SPLIT.match(tag):
        wanted = split["stem"].lower()
    if wanted in (stem, stem.rpartition("/")[2]):
        return True
    # A tag ends the name, after a separator; in front of it "Q4_K_M" must not be the tail of "IQ4_K_M".
    return re.search(rf"(^|[/._-]){re.escape(wanted)}$", stem) is not None


def _complete(place: str, choice: GGUFChoice) -> GGUFChoice:
    if len(choice.files) != choice.num_parts:
        have = f"{len(choice.files)} of {choice.num_parts} parts"
        raise ModelNotFoundError(f"{place}: {choice.stem} has only {have}")
    return choice


def side_files(names: Iterable[str]) -> list[str]:
    """Configuration, tokenizer and chat template files, and the index of the shards; never weights or pickles."""
    kept = (n for n in names if _SIDE_FILES.match(n) or n in _TOKENIZER_FILES or n.endswith(".tiktoken"))
    return sorted(name for name in kept if not _PICKLE_INDEX.search(name))


def has_tokenizer(names: Iterable[str]) -> bool:
    """Whether one of the tokenizer files that a checkpoint needs is there."""
    return any(name in _TOKENIZERS or name.endswith(".tiktoken") for name in names)
