"""Tokenizers from the files of a Hugging Face folder.

Knows file names and the fields of tokenizer_config.json and its relatives. Order: tokenizer.json, vocab.json with
merges.txt, tokenizer.model; other kinds are refused by name. Source: the conventions of transformers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import tokenizers

from octavo.base.errors import ModelFormatError, UnsupportedModelError
from octavo.text import bpe, sentencepiece, tiktoken
from octavo.text.pieces import BYTE_LEVEL_RULE, NotConcatenativeError, PieceRule, rule_from_decoder
from octavo.text.splits import split_rule
from octavo.text.tokenizer import AddedToken, Tokenizer, Vocabulary

_SPECIAL_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_SENTENCEPIECE_NAMES = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")
# Classes whose originals let tokenizer_config.json decide about BOS and EOS, whatever tokenizer.json says.
_CONFIG_DECIDES = ("LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer", "CohereTokenizer")
# Classes of vocab.json + merges.txt, with the name of their way to split and the special tokens they have by default.
_BPE_CLASSES = {"GPT2Tokenizer": "gpt-2", "CodeGenTokenizer": "gpt-2", "Qwen2Tokenizer": "qwen2"}
_GPT2_SPECIALS = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
_CLASS_SPECIALS = {
    "GPT2Tokenizer": _GPT2_SPECIALS,
    "CodeGenTokenizer": _GPT2_SPECIALS,
    "Qwen2Tokenizer": {"eos_token": "<|endoftext|>"},
}
_REFUSED = {
    "tekken.json": "tekken.json (mistral-common)",
    "vocab.txt": "vocab.txt (WordPiece)",
    "qwen.tiktoken": "qwen.tiktoken (custom code)",
}


class TokenizerFiles:
    """The small files that say how a folder's tokenizer is used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = self._json("tokenizer_config.json")
        self.special_map = self._json("special_tokens_map.json")
        self.generation = self._json("generation_config.json")
        self.model = self._json("config.json")

    def _json(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        if not path.is_file():
            return {}
        try:
            value = json.loads(path.read_bytes())
        except (ValueError, UnicodeDecodeError) as error:
            raise ModelFormatError(path, f"not valid JSON ({error})") from None
        if not isinstance(value, dict):
            raise ModelFormatError(path, "not a JSON object")
        return value

    @cached_property
    def tokenizer_class(self) -> str:
        """The class that the files name, without "Fast"; for bare vocab.json and merges.txt, the one they mean."""
        name = str(self.config.get("tokenizer_class") or "").removesuffix("Fast")
        if not name and (self.folder / "merges.txt").is_file() and not (self.folder / "tokenizer.json").is_file():
            is_qwen = str(self.model.get("model_type", "")).startswith("qwen")
            name = "Qwen2Tokenizer" if is_qwen else "GPT2Tokenizer"
        return name

    @cached_property
    def special_tokens(self) -> dict[str, str]:
        """The named special tokens, such as bos_token, that the files give a text for."""
        files = {**_CLASS_SPECIALS.get(self.tokenizer_class, {}), **self.special_map, **self.config}
        found = {name: _content(files.get(name)) for name in _SPECIAL_NAMES}
        return {name: text for name, text in found.items() if text}

    def declared_added(self) -> dict[int, tokenizers.AddedToken]:
        """The tokens of `added_tokens_decoder` (or, in old folders, added_tokens.json) by id."""
        declared = self.config.get("added_tokens_decoder")
        try:
            if declared:
                return {int(id): _added_token(entry) for id, entry in declared.items()}
            special = set(self.special_tokens.values())
            return {
                int(id): tokenizers.AddedToken(text, normalized=False, special=text in special)
                for text, id in self._json("added_tokens.json").items()
            }
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            reason = f"its added tokens are not a table of ids and tokens ({error!r})"
            raise ModelFormatError(self.folder / "tokenizer_config.json", reason) from None

    def model_ids(self, key: str) -> list[int]:
        """The ids under `key` (a number or a list) of config.json and generation_config.json."""
        nested = self.model.get("text_config")
        places = [self.generation, self.model, nested if isinstance(nested, dict) else {}]
        values = [place.get(key) for place in places]
        return [
            id
            for value in values
            for id in (value if isinstance(value, list) else [value])
            if type(id) is int and id >= 0
        ]


def _content(value: object) -> str | None:
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _added_token(entry: Mapping[str, Any]) -> tokenizers.AddedToken:
    flags = {name: bool(entry.get(name, False)) for name in ("single_word", "lstrip", "rstrip", "special")}
    return tokenizers.AddedToken(entry["content"], normalized=bool(entry.get("normalized", False)), **flags)


def tokenizer_from_folder(folder: Path, files: TokenizerFiles | None = None) -> Tokenizer:
    """Load the tokenizer of a folder.

    Raises ModelFormatError when there is none or it is damaged, UnsupportedModelError for a kind that is not known.
    """
    files = files or TokenizerFiles(folder)
    if (folder / "tokenizer.json").is_file():
        return _from_tokenizer_json(folder / "tokenizer.json", files)
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return _from_vocab_and_merges(files)
    for name in _SENTENCEPIECE_NAMES:
        if (path := folder / name).is_file():
            return _from_ranks(path, files) if tiktoken.is_rank_file(path) else _from_sentencepiece(path, files)
    for name, what in _REFUSED.items():
        if (folder / name).is_file():
            raise UnsupportedModelError(f"{folder}: the tokenizer kind {what} is not supported; tokenizer.json is.")
    raise ModelFormatError(folder, "no tokenizer: tokenizer.json, vocab.json with merges.txt, or tokenizer.model")


def _from_tokenizer_json(path: Path, files: TokenizerFiles) -> Tokenizer:
    try:
        backend = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # the package raises nothing more specific
        raise ModelFormatError(path, f"not a tokenizer.json that can be read ({error})") from None
    backend.no_truncation()
    backend.no_padding()
    _add_declared(backend, files)
    decoder = json.loads(backend.decoder.__getstate__()) if backend.decoder is not None else None
    rule: PieceRule | None
    try:
        rule, reason = rule_from_decoder(decoder), ""
    except NotConcatenativeError as error:
        rule, reason = None, str(error)
    vocabulary = Vocabulary(_texts(backend.get_vocab(with_added_tokens=True)), _table(backend), rule, reason)
    bos, eos = _bos_eos(files, backend)
    decides = files.tokenizer_class in _CONFIG_DECIDES
    if decides and ("add_bos_token" in files.config or "add_eos_token" in files.config):
        _wrap(backend, vocabulary, files, bos, eos, add_bos=True)
    return _finish(backend, vocabulary, files, bos, eos)


def _add_declared(backend: tokenizers.Tokenizer, files: TokenizerFiles) -> None:
    """Register tokens that only tokenizer_config.json marks as added; never makes new ids but the declared ones."""
    present = {token.content: token for token in backend.get_added_tokens_decoder().values()}
    for id, token in sorted(files.declared_added().items()):
        if token.content not in present:
            backend.add_tokens([token])
            if backend.token_to_id(token.content) != id:
                raise ModelFormatError(
                    files.folder / "tokenizer_config.json",
                    f"added token {token.content!r} has id {id}, but the tokenizer's vocabulary does not end there",
                )
            present[token.content] = token
    for text in files.special_tokens.values():
        known = present.get(text)
        if known is not None and not known.special:
            known.special = True
            backend.add_special_tokens([known])
        elif known is None and backend.token_to_id(text) is not None:
            backend.add_special_tokens([tokenizers.AddedToken(text, normalized=False, special=True)])


def _from_vocab_and_merges(files: TokenizerFiles) -> Tokenizer:
    path = files.folder / "vocab.json"
    split_name = _BPE_CLASSES.get(files.tokenizer_class)
    if split_name is None:
        raise UnsupportedModelError(
            f"{files.folder}: vocab.json and merges.txt of {files.tokenizer_class} are not supported (known: "
            f"{', '.join(_BPE_CLASSES)}); tokenizer.json is."
        )
    if files.config.get("add_prefix_space"):
        raise UnsupportedModelError(f"{files.folder}: add_prefix_space needs a tokenizer.json.")
    vocab = _read_vocab(path)
    declared = files.declared_added()
    try:
        backend = bpe.byte_level_backend(
            vocab | {token.content: id for id, token in declared.items()},
            _read_merges(files.folder / "merges.txt"),
            split_rule(split_name),
        )
    except ValueError as error:
        raise ModelFormatError(path, f"it does not fit merges.txt: {error}") from None
    backend.add_tokens([token for _, token in sorted(declared.items())])
    _add_declared(backend, files)
    vocabulary = Vocabulary(_texts(backend.get_vocab(with_added_tokens=True)), _table(backend), BYTE_LEVEL_RULE)
    bos, eos = _bos_eos(files, backend)
    _wrap(backend, vocabulary, files, bos, eos, add_bos=False)
    return _finish(backend, vocabulary, files, bos, eos)


def _read_vocab(path: Path) -> dict[str, int]:
    try:
        vocab = json.loads(path.read_bytes())
    except ValueError as error:
        raise ModelFormatError(path, f"not valid JSON ({error})") from None
    if not isinstance(vocab, dict) or not all(type(id) is int and id >= 0 for id in vocab.values()):
        raise ModelFormatError(path, "not an object from tokens to ids")
    return vocab


def _read_merges(path: Path) -> list[bpe.Merge]:
    merges: list[bpe.Merge] = []
    for number, line in enumerate(path.read_text("utf-8").split("\n"), 1):
        line = line.rstrip("\r")
        if not line or (number == 1 and line.startswith("#version")):
            continue
        left, _, right = line.partition(" ")
        if not left or not right or " " in right:
            raise ModelFormatError(path, f"line {number} is not a pair of tokens")
        merges.append((left, right))
    return merges


def _from_sentencepiece(path: Path, files: TokenizerFiles) -> Tokenizer:
    model = sentencepiece.read_model(path)
    prefix = files.config.get("add_prefix_space")
    model = replace(
        model,
        prefix=model.prefix if prefix is None else bool(prefix),
        prefix_each=bool(files.config.get("legacy", True)),
        appended=_appended(files, len(model.pieces)),
    )
    try:
        backend, vocabulary = sentencepiece.build(model)
    except ValueError as error:
        raise ModelFormatError(path, f"its pieces contradict each other: {error}") from None
    _add_declared(backend, files)
    vocabulary = replace(vocabulary, added={**vocabulary.added, **_table(backend)})
    bos, eos = _bos_eos(files, backend)
    bos = model.bos_id if bos is None else bos
    eos = model.eos_id if eos is None else eos
    _wrap(backend, vocabulary, files, bos, eos, add_bos=not model.unigram, add_eos=model.unigram)
    return _finish(backend, vocabulary, files, bos, eos)


def _appended(files: TokenizerFiles, size: int) -> list[tokenizers.AddedToken]:
    """The declared tokens after the model's own `size` pieces; their ids must follow without a gap."""
    declared = files.declared_added()
    new = sorted(id for id in declared if id >= size)
    if new != list(range(size, size + len(new))):
        raise ModelFormatError(
            files.folder / "tokenizer_config.json", f"added tokens with ids {new} do not follow the {size} pieces"
        )
    return [declared[id] for id in new]


def _from_ranks(path: Path, files: TokenizerFiles) -> Tokenizer:
    if files.model.get("model_type", "llama") != "llama":
        raise UnsupportedModelError(
            f"{path}: a rank file does not say how text is split, and only Llama 3's way is known; add tokenizer.json."
        )
    ranks = tiktoken.read_ranks(path)
    declared = {token.content: id for id, token in files.declared_added().items()}
    specials = declared or tiktoken.llama3_specials(1 + max(ranks.values()))
    backend, vocabulary = tiktoken.build(ranks, split_rule("llama-bpe"), specials)
    bos, eos = _bos_eos(files, backend)
    bos = specials.get("<|begin_of_text|>") if bos is None else bos
    eos = specials.get("<|end_of_text|>") if eos is None else eos
    _wrap(backend, vocabulary, files, bos, eos, add_bos=True)
    return _finish(backend, vocabulary, files, bos, eos)


def _texts(vocab: Mapping[str, int]) -> list[str]:
    texts = [""] * (1 + max(vocab.values(), default=-1))
    for text, id in vocab.items():
        texts[id] = text
    return texts


def _table(backend: tokenizers.Tokenizer) -> dict[int, AddedToken]:
    return {id: AddedToken(t.content, t.special) for id, t in backend.get_added_tokens_decoder().items()}


def _bos_eos(files: TokenizerFiles, backend: tokenizers.Tokenizer) -> tuple[int | None, int | None]:
    """The ids of BOS and EOS: by the tokenizer's files, else (where these name none at all) by the model's."""
    names = ("bos_token", "eos_token")
    if not files.special_tokens:
        bos, eos = (
            next((id for id in files.model_ids(f"{name}_id") if backend.id_to_token(id) is not None), None)
            for name in names
        )
        return bos, eos
    bos, eos = (backend.token_to_id(files.special_tokens.get(name, "")) for name in names)
    return bos, eos


def _wrap(
    backend: tokenizers.Tokenizer,
    vocabulary: Vocabulary,
    files: TokenizerFiles,
    bos: int | None,
    eos: int | None,
    *,
    add_bos: bool,
    add_eos: bool = False,
) -> None:
    """Set what is put around a text, by tokenizer_config.json or else the defaults given."""
    put_bos = bos is not None and files.config.get("add_bos_token", add_bos)
    put_eos = eos is not None and files.config.get("add_eos_token", add_eos)
    bpe.set_bos_eos(
        backend,
        (vocabulary.texts[bos], bos) if put_bos and bos is not None else None,
        (vocabulary.texts[eos], eos) if put_eos and eos is not None else None,
    )


def _finish(
    backend: tokenizers.Tokenizer,
    vocabulary: Vocabulary,
    files: TokenizerFiles,
    bos: int | None,
    eos: int | None,
) -> Tokenizer:
    ends = files.model_ids("eos_token_id")
    return Tokenizer(backend, vocabulary, bos_token_id=bos, eos_token_id=eos, end_ids=ends)
