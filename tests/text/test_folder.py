"""Tokenizers of Hugging Face folders: which files rule, special tokens, refusals."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors

from octavo.base.errors import ModelFormatError, UnsupportedError, UnsupportedModelError
from octavo.text.detokenizer import Detokenizer
from octavo.text.folder import tokenizer_from_folder
from octavo.text.pieces import BYTE_TO_CHAR
from octavo.text.tokenizer import Tokenizer

MERGES = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o"), ("Ġ", "w")]
VOCAB = {text: id for id, text in enumerate([*BYTE_TO_CHAR, *(left + right for left, right in MERGES)])}
SIZE = len(VOCAB)


def write(folder: Path, **files: Any) -> Path:
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return folder


def write_tokenizer(
    folder: Path,
    added: list[tuple[str, bool]],
    *,
    bos: str | None = None,
    decoder: decoders.Decoder | None = None,
    **files: Any,
) -> Path:
    """A byte-level tokenizer.json with `added` (text, special) at the end."""
    backend = tokenizers.Tokenizer(models.BPE(VOCAB, MERGES))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoder or decoders.ByteLevel()
    backend.add_tokens([tokenizers.AddedToken(text, special=special, normalized=False) for text, special in added])
    backend.enable_truncation(4)
    if bos:
        template = processors.TemplateProcessing(f"{bos} $A", special_tokens=[(bos, backend.token_to_id(bos))])
        backend.post_processor = template
    backend.save(str(folder / "tokenizer.json"))
    return write(folder, **files)


def texts(tokenizer: Tokenizer, text: str, **options: Any) -> list[str]:
    return [tokenizer.token_text(id) for id in tokenizer.encode(text, **options)]


class TestTokenizerJson:
    added: ClassVar = [("<s>", True), ("</s>", True), ("<think>", False)]

    def test_spans_are_ranges_of_characters(self, tmp_path: Path) -> None:
        tokenizer = tokenizer_from_folder(write_tokenizer(tmp_path, self.added, bos="<s>"))
        text = "hello é<s>"
        spans = tokenizer.encode_spans(text)
        assert [id for id, _, _ in spans] == tokenizer.encode(text)
        assert [text[start:stop] for _, start, stop in spans] == ["", "hello", " ", "é", "é", "<s>"]

    def test_it_rules_about_bos_and_never_truncates(self, tmp_path: Path) -> None:
        tokenizer = tokenizer_from_folder(write_tokenizer(tmp_path, self.added, bos="<s>"))
        assert texts(tokenizer, "hello wwwww") == ["<s>", "hello", "Ġw", "w", "w", "w", "w"]
        assert tokenizer.vocab_size == SIZE + 3

    def test_some_classes_let_the_config_decide_about_bos(self, tmp_path: Path) -> None:
        config = {"tokenizer_class": "LlamaTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
        folder = write_tokenizer(tmp_path, self.added, tokenizer_config={**config, "add_bos_token": True})
        assert texts(tokenizer_from_folder(folder), "hello") == ["<s>", "hello"]
        folder = write_tokenizer(tmp_path, self.added, bos="<s>", tokenizer_config={**config, "add_bos_token": False})
        assert texts(tokenizer_from_folder(folder), "hello") == ["hello"]
        other = {**config, "tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": False}
        folder = write_tokenizer(tmp_path, self.added, bos="<s>", tokenizer_config=other)
        assert texts(tokenizer_from_folder(folder), "hello") == ["<s>", "hello"]

    def test_ends_come_from_all_files(self, tmp_path: Path) -> None:
        folder = write_tokenizer(
            tmp_path,
            [("<s>", True), ("</s>", True), ("<a>", True), ("<b>", True), ("<c>", True), ("<|im_end|>", True)],
            tokenizer_config={"bos_token": "<s>", "eos_token": {"content": "<c>"}},
            generation_config={"eos_token_id": [SIZE + 2]},
            config={"eos_token_id": 7, "text_config": {"eos_token_id": [SIZE + 3]}},
        )
        tokenizer = tokenizer_from_folder(folder)
        assert tokenizer.eos_token_id == SIZE + 4
        assert tokenizer.bos_token_id == SIZE
        assert tokenizer.eos_token_ids == {7, SIZE + 1, SIZE + 2, SIZE + 3, SIZE + 4, SIZE + 5}

    def test_without_named_tokens_the_model_says(self, tmp_path: Path) -> None:
        folder = write_tokenizer(tmp_path, self.added, config={"bos_token_id": SIZE, "eos_token_id": [SIZE + 1, 5]})
        tokenizer = tokenizer_from_folder(folder)
        assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (SIZE, SIZE + 1)

    def test_tokens_that_only_the_config_marks(self, tmp_path: Path) -> None:
        decoder = {str(SIZE + 3): {"content": "<|x|>", "special": True}}
        config = {"added_tokens_decoder": decoder, "eos_token": "<think>", "pad_token": "not in the vocabulary"}
        tokenizer = tokenizer_from_folder(write_tokenizer(tmp_path, self.added, tokenizer_config=config))
        assert texts(tokenizer, "<|x|>") == ["<|x|>"]
        assert {tokenizer.token_text(id) for id in tokenizer.special_ids} == {"<s>", "</s>", "<think>", "<|x|>"}
        assert tokenizer.vocab_size == SIZE + 4

    def test_declared_ids_that_cannot_be(self, tmp_path: Path) -> None:
        config = {"added_tokens_decoder": {str(SIZE + 9): {"content": "<|x|>"}}}
        with pytest.raises(ModelFormatError, match=r"'<\|x\|>'"):
            tokenizer_from_folder(write_tokenizer(tmp_path, self.added, tokenizer_config=config))

    def test_decoders_that_do_not_concatenate_encode_but_do_not_stream(self, tmp_path: Path) -> None:
        folder = write_tokenizer(tmp_path, self.added, decoder=decoders.WordPiece())
        tokenizer = tokenizer_from_folder(folder)
        ids = tokenizer.encode("he")
        assert tokenizer.decode([*ids, 10**6]) == "he"
        with pytest.raises(UnsupportedError, match="WordPiece"):
            Detokenizer(tokenizer)

    def test_metaspace_decoders(self, tmp_path: Path) -> None:
        folder = write_tokenizer(tmp_path, self.added, decoder=decoders.Metaspace())
        assert tokenizer_from_folder(folder).leading_spaces == 1
        folder = write_tokenizer(tmp_path, self.added, decoder=decoders.Metaspace(prepend_scheme="never"))
        assert tokenizer_from_folder(folder).leading_spaces == 0

    @pytest.mark.parametrize("value", [[1], {"x": {"content": "y"}}, {"3": {}}, {"3": 4}])
    def test_added_tokens_that_are_nonsense(self, tmp_path: Path, value: Any) -> None:
        folder = write_tokenizer(tmp_path, self.added, tokenizer_config={"added_tokens_decoder": value})
        with pytest.raises(ModelFormatError, match="added tokens"):
            tokenizer_from_folder(folder)

    def test_ids_of_the_model_that_the_tokenizer_does_not_have(self, tmp_path: Path) -> None:
        folder = write_tokenizer(tmp_path, self.added, config={"bos_token_id": 10**6, "eos_token_id": -1})
        tokenizer = tokenizer_from_folder(folder)
        assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (None, None)

    @pytest.mark.parametrize("content", ["{", "[]", '{"model": {"type": "Other"}}'])
    def test_damage(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "tokenizer.json").write_text(content)
        with pytest.raises(ModelFormatError, match=r"tokenizer\.json"):
            tokenizer_from_folder(tmp_path)

    def test_damaged_neighbours(self, tmp_path: Path) -> None:
        folder = write_tokenizer(tmp_path, self.added)
        (folder / "tokenizer_config.json").write_text("{")
        with pytest.raises(ModelFormatError, match=r"tokenizer_config\.json"):
            tokenizer_from_folder(folder)


class TestVocabAndMerges:
    def write(self, folder: Path, **files: Any) -> Path:
        lines = ["#version: 0.2", *(f"{left} {right}" for left, right in MERGES), ""]
        (folder / "merges.txt").write_text("\n".join(lines), "utf-8")
        return write(folder, vocab={**VOCAB, "<|endoftext|>": SIZE}, **files)

    def test_bare_files_are_gpt2(self, tmp_path: Path) -> None:
        tokenizer = tokenizer_from_folder(self.write(tmp_path))
        assert texts(tokenizer, "hello w12<|endoftext|>") == ["hello", "Ġw", "1", "2", "<|endoftext|>"]
        assert tokenizer.bos_token_id == tokenizer.eos_token_id == SIZE
        assert tokenizer.eos_token_ids == tokenizer.special_ids == {SIZE}

    def test_qwen2(self, tmp_path: Path) -> None:
        folder = self.write(tmp_path, config={"model_type": "qwen2"}, added_tokens={"<|im_end|>": SIZE + 1})
        (folder / "special_tokens_map.json").write_text('{"eos_token": "<|im_end|>"}')
        tokenizer = tokenizer_from_folder(folder)
        assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (None, SIZE + 1)
        assert texts(tokenizer, "he<|im_end|>") == ["he", "<|im_end|>"]
        assert tokenizer.special_ids == {SIZE + 1}

    def test_other_classes_are_refused_by_name(self, tmp_path: Path) -> None:
        folder = self.write(tmp_path, tokenizer_config={"tokenizer_class": "RobertaTokenizer"})
        with pytest.raises(UnsupportedModelError, match="RobertaTokenizer"):
            tokenizer_from_folder(folder)

    def test_a_prefix_space_is_refused(self, tmp_path: Path) -> None:
        folder = self.write(tmp_path, tokenizer_config={"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True})
        with pytest.raises(UnsupportedModelError, match="add_prefix_space"):
            tokenizer_from_folder(folder)

    @pytest.mark.parametrize("line", ["he", "a b c", "zz yy"])
    def test_damaged_merges(self, tmp_path: Path, line: str) -> None:
        folder = self.write(tmp_path)
        (folder / "merges.txt").write_text(f"#version: 0.2\n{line}\n")
        with pytest.raises(ModelFormatError):
            tokenizer_from_folder(folder)

    @pytest.mark.parametrize("vocab", ["[]", '{"a": -1}', '{"a": "b"}', "{"])
    def test_damaged_vocab(self, tmp_path: Path, vocab: str) -> None:
        folder = self.write(tmp_path)
        (folder / "vocab.json").write_text(vocab)
        with pytest.raises(ModelFormatError, match=r"vocab\.json"):
            tokenizer_from_folder(folder)


class TestRankFiles:
    tokens: ClassVar = [*(bytes([byte]) for byte in range(256)), b"he", b"ll", b"hell", b"hello"]

    def write(self, folder: Path, **files: Any) -> Path:
        lines = [base64.b64encode(token) + b" %d" % rank for rank, token in enumerate(self.tokens)]
        (folder / "tokenizer.model").write_bytes(b"\n".join(lines) + b"\n")
        return write(folder, **files)

    def test_llama3(self, tmp_path: Path) -> None:
        tokenizer = tokenizer_from_folder(self.write(tmp_path, config={"model_type": "llama"}))
        assert texts(tokenizer, "hello<|eot_id|>") == ["<|begin_of_text|>", "hello", "<|eot_id|>"]
        assert tokenizer.vocab_size == len(self.tokens) + 256
        ends = {tokenizer.token_text(id) for id in tokenizer.eos_token_ids}
        assert ends == {"<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"}

    def test_other_models_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UnsupportedModelError, match="rank file"):
            tokenizer_from_folder(self.write(tmp_path, config={"model_type": "other"}))

    def test_damage(self, tmp_path: Path) -> None:
        folder = self.write(tmp_path)
        path = folder / "tokenizer.model"
        path.write_bytes(path.read_bytes() + b"!!! 9\n")
        with pytest.raises(ModelFormatError, match=f"line {len(self.tokens) + 1}"):
            tokenizer_from_folder(folder)


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"no tokenizer: tokenizer\.json"):
        tokenizer_from_folder(tmp_path)


@pytest.mark.parametrize("name", ["tekken.json", "vocab.txt"])
def test_kinds_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{}")
    with pytest.raises(UnsupportedModelError, match=name.replace(".", r"\.")):
        tokenizer_from_folder(tmp_path)
