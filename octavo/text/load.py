"""From a resolved model on disk to everything that text needs: tokenizer, chat templates, generation defaults.

Knows where Hugging Face folders and GGUF files keep these things. Does not resolve names or download.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from octavo.base.errors import InvalidRequestError, ModelFormatError
from octavo.text.chat import ChatTemplate
from octavo.text.folder import TokenizerFiles, tokenizer_from_folder
from octavo.text.gguf_vocab import tokenizer_from_gguf
from octavo.text.tokenizer import Tokenizer
from octavo.weights.gguf import GGUFFile

_TEMPLATE_FOLDERS = ("additional_chat_templates", "chat_templates")
# GGUF's recommended sampling -> the names of generation_config.json
_GGUF_SAMPLING = {
    "temp": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "penalty_repeat": "repetition_penalty",
}
_GGUF_SPECIALS = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "unk_token": "unknown_token_id",
    "sep_token": "seperator_token_id",  # the specification's spelling
    "pad_token": "padding_token_id",
    "cls_token": "cls_token_id",
    "mask_token": "mask_token_id",
}


@dataclass(frozen=True)
class TextAssets:
    """What a model brings for text. `templates` by name ("default" first of all, others such as "tool_use").

    `generation` has the model's recommended sampling under the names of generation_config.json.
    """

    tokenizer: Tokenizer
    templates: Mapping[str, ChatTemplate] = field(default_factory=dict)
    generation: Mapping[str, Any] = field(default_factory=dict)
    special_tokens: Mapping[str, str] = field(default_factory=dict)

    def chat_template(self, *, tools: bool = False, name: str | None = None) -> ChatTemplate:
        """The template to render a conversation with: the named one, else "tool_use" for tools, else "default".

        Raises InvalidRequestError when the model has none of that name, or none at all.
        """
        if name is None:
            name = "tool_use" if tools and "tool_use" in self.templates else "default"
        template = self.templates.get(name)
        if template is None:
            have = ", ".join(sorted(self.templates)) or "none"
            raise InvalidRequestError(
                f"The model has no chat template {name!r} (it has: {have}). Use completions with a prompt, or give a "
                "template.",
                param="messages",
            )
        return template


def load_text(model: str | Path | Sequence[str | Path]) -> TextAssets:
    """Load from a Hugging Face folder, a GGUF file, or the files of a split GGUF model.

    Raises ModelFormatError for missing or damaged files, UnsupportedModelError for kinds that are not known.
    """
    paths = [Path(model)] if isinstance(model, (str, Path)) else [Path(path) for path in model]
    if len(paths) == 1 and paths[0].is_dir():
        return _from_folder(paths[0])
    with GGUFFile.open(paths[0]) as file:
        return text_from_gguf(file.metadata, str(paths[0]))


def _from_folder(folder: Path) -> TextAssets:
    files = TokenizerFiles(folder)
    tokenizer = tokenizer_from_folder(folder, files)
    specials = dict(files.special_tokens)
    for name, id in (("bos_token", tokenizer.bos_token_id), ("eos_token", tokenizer.eos_token_id)):
        if id is not None:
            specials.setdefault(name, tokenizer.token_text(id))
    sources = _folder_templates(folder, files.config)
    templates = {name: ChatTemplate(text, name, defaults=specials) for name, text in sources.items()}
    return TextAssets(tokenizer, templates, files.generation, specials)


def _folder_templates(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Template texts by name. Files of their own take the place of those in tokenizer_config.json."""
    found: dict[str, str] = {}
    if (path := folder / "chat_template.jinja").is_file():
        found["default"] = _read(path)
    for directory in _TEMPLATE_FOLDERS:
        for path in sorted((folder / directory).glob("*.jinja")):
            found.setdefault(path.stem, _read(path))
    if found:
        return found
    if (path := folder / "chat_template.json").is_file():
        return _named(_json(path).get("chat_template"), path)
    return _named(config.get("chat_template"), folder / "tokenizer_config.json")


def _named(value: object, path: Path) -> dict[str, str]:
    """A template field: one text, a list of {name, template}, or an object from names to texts."""
    if value is None:
        return {}
    if isinstance(value, str):
        return {"default": value}
    try:
        named = value if isinstance(value, dict) else {entry["name"]: entry["template"] for entry in value}  # type: ignore[attr-defined]
    except (TypeError, KeyError):
        named = None
    if not isinstance(named, dict) or not all(isinstance(text, str) for text in named.values()):
        raise ModelFormatError(path, "chat_template is neither a text nor a list of named texts")
    return named


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ModelFormatError(path, f"not UTF-8 ({error})") from None


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise ModelFormatError(path, f"not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise ModelFormatError(path, "not a JSON object")
    return value


def text_from_gguf(metadata: Mapping[str, Any], path: str = "GGUF") -> TextAssets:
    """What a GGUF file's metadata hold: tokenizer, templates (default and named), recommended sampling."""
    tokenizer = tokenizer_from_gguf(metadata, path)
    specials = _gguf_specials(metadata, tokenizer)
    prefix = "tokenizer.chat_template"
    sources = {key[len(prefix) + 1 :]: metadata[key] for key in metadata if key.startswith(f"{prefix}.")}
    if isinstance(default := metadata.get(prefix), str):
        sources["default"] = default
    templates = {
        name: ChatTemplate(text, name, defaults=specials) for name, text in sources.items() if isinstance(text, str)
    }
    sampling = {ours: metadata.get(f"general.sampling.{theirs}") for theirs, ours in _GGUF_SAMPLING.items()}
    generation = {key: value for key, value in sampling.items() if value is not None}
    return TextAssets(tokenizer, templates, generation, specials)


def _gguf_specials(metadata: Mapping[str, Any], tokenizer: Tokenizer) -> dict[str, str]:
    ids = {name: metadata.get(f"tokenizer.ggml.{key}") for name, key in _GGUF_SPECIALS.items()}
    texts = {name: tokenizer.token_text(int(id)) for name, id in ids.items() if id is not None}
    return {name: text for name, text in texts.items() if text}
