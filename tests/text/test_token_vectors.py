"""Real vocabularies against what the reference libraries encode and decode (320 texts each, 47 for GGUF)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from octavo.text import tiktoken
from octavo.text.folder import tokenizer_from_folder
from octavo.text.gguf_vocab import tokenizer_from_gguf
from octavo.text.splits import split_rule
from octavo.text.tokenizer import Tokenizer
from octavo.weights.gguf import GGUFFile

FOLDERS = {
    "gpt2": "tokenizers/gpt2",
    "llama2": "tokenizers/llama2",
    "mistral-v1": "tokenizers/mistral-v1",
    "llama3": "tokenizers/llama3",
    "falcon": "tokenizers/falcon",
    "stories260K": "models/stories260K/hf",
}
GGUF_NAMES = ("gpt-2", "llama-spm", "deepseek-coder", "falcon")


def vectors(shared_data: Path, name: str) -> list[tuple[str, list[int]]]:
    lines = (shared_data / "token_vectors" / f"{name}.jsonl").read_text("utf-8").splitlines()
    return [(entry["text"], entry["ids"]) for entry in map(json.loads, lines)]


def gguf_vectors(path: Path) -> list[tuple[str, list[int]]]:
    texts = Path(f"{path}.inp").read_bytes().decode("utf-8").split("\n__ggml_vocab_test__\n")
    ids = [[int(id) for id in line.split()] for line in Path(f"{path}.out").read_text().split("\n")]
    assert len(texts) == len(ids) == 47
    return list(zip(texts, ids, strict=True))


def gguf_tokenizer(path: Path) -> Tokenizer:
    with GGUFFile.open(path) as file:
        return tokenizer_from_gguf(file.metadata, str(path))


def check(tokenizer: Tokenizer, cases: list[tuple[str, list[int]]], *, parse_special: bool) -> None:
    texts = [text for text, _ in cases]
    found = tokenizer.encode_batch(texts, add_special_tokens=False, parse_special=parse_special)
    wrong = [(text, ids, got) for (text, ids), got in zip(cases, found, strict=True) if ids != got]
    assert not wrong, f"{len(wrong)} of {len(cases)}: {wrong[0]}"
    decoded = [tokenizer.decode(ids, skip_special_tokens=False) for _, ids in cases]
    assert decoded == texts


@pytest.mark.parametrize("name", FOLDERS)
def test_folders_encode_and_decode_as_the_reference(name: str, shared_data: Path) -> None:
    cases = vectors(shared_data, name)
    assert len(cases) == 320
    # Of the reference libraries, only the one used for falcon reads special tokens out of the text.
    check(tokenizer_from_folder(shared_data / FOLDERS[name]), cases, parse_special=name == "falcon")


def test_a_rank_file_encodes_and_decodes_as_the_reference(shared_data: Path) -> None:
    ranks = tiktoken.read_ranks(shared_data / "tokenizers/cl100k_base/cl100k_base.tiktoken")
    tokenizer = Tokenizer(*tiktoken.build(ranks, split_rule("dbrx"), {}))
    check(tokenizer, vectors(shared_data, "cl100k_base"), parse_special=False)


@pytest.mark.parametrize("name", GGUF_NAMES)
def test_gguf_vocabularies_encode_and_decode_as_the_reference(name: str, shared_data: Path) -> None:
    path = shared_data / f"tokenizers/gguf-vocab/ggml-vocab-{name}.gguf"
    check(gguf_tokenizer(path), gguf_vectors(path), parse_special=False)


def test_llama3_ranks_encode_the_llama_bpe_vectors(shared_data: Path) -> None:
    folder = shared_data / "tokenizers/llama3"
    check(tokenizer_from_folder(folder), gguf_vectors(folder / "ggml-vocab-llama-bpe.gguf"), parse_special=False)


@pytest.mark.parametrize(
    ("gguf", "folder", "texts"),
    [
        ("tokenizers/gguf-vocab/ggml-vocab-gpt-2.gguf", "tokenizers/gpt2", "gpt2"),
        ("tokenizers/gguf-vocab/ggml-vocab-falcon.gguf", "tokenizers/falcon", "falcon"),
        ("tokenizers/gguf-vocab/ggml-vocab-llama-spm.gguf", "tokenizers/llama2", "llama2"),
        ("models/stories260K/stories260K.gguf", "models/stories260K/hf", "stories260K"),
    ],
)
def test_the_same_vocabulary_in_two_kinds_of_files(gguf: str, folder: str, texts: str, shared_data: Path) -> None:
    one, other = gguf_tokenizer(shared_data / gguf), tokenizer_from_folder(shared_data / folder)
    assert one.vocab_size == other.vocab_size
    assert one.id_bytes() == other.id_bytes()
    assert one.special_ids == other.special_ids
    assert one.eos_token_ids == other.eos_token_ids
    inputs = [text for text, _ in vectors(shared_data, texts)] + ["<s>a</s> b<|endoftext|>c", ""]
    for special in (True, False):
        found = [t.encode_batch(inputs, add_special_tokens=False, parse_special=special) for t in (one, other)]
        assert found[0] == found[1]
