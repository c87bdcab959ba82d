"""Reading of `tokenizer.model`: fields, kinds, refusals, damaged files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from octavo.base.errors import ModelFormatError, UnsupportedModelError
from octavo.text import sentencepiece
from octavo.text.folder import tokenizer_from_folder

from .vocabularies import sentencepiece_file, sentencepiece_pieces

BPE = {3: 2}
PLAIN = {3: 1, 4: 0}


def write(folder: Path, trainer: dict[int, Any], normalizer: dict[int, Any], **files: str) -> Path:
    data = sentencepiece_file(sentencepiece_pieces(), trainer=trainer, normalizer=normalizer)
    (folder / "tokenizer.model").write_bytes(data)
    for name, text in files.items():
        (folder / f"{name}.json").write_text(text)
    return folder


def texts(folder: Path, text: str, **options: Any) -> list[str]:
    tokenizer = tokenizer_from_folder(folder)
    return [tokenizer.token_text(id) for id in tokenizer.encode(text, **options)]


def test_pieces_scores_and_kinds(tmp_path: Path) -> None:
    model = sentencepiece.read_model(write(tmp_path, BPE, PLAIN) / "tokenizer.model")
    assert list(zip(model.pieces, model.scores, model.kinds, strict=True)) == sentencepiece_pieces()
    assert (model.unigram, model.prefix, model.collapse_spaces) == (False, True, False)
    assert (model.bos_id, model.eos_id) == (1, 2)


def test_no_bos(tmp_path: Path) -> None:
    model = sentencepiece.read_model(write(tmp_path, {**BPE, 41: -1}, PLAIN) / "tokenizer.model")
    assert model.bos_id is None


def test_bpe(tmp_path: Path) -> None:
    assert texts(write(tmp_path, BPE, PLAIN), "the cat") == ["<s>", "▁the", "▁c", "at"]


def test_the_defaults_of_the_format(tmp_path: Path) -> None:
    # Unigram, with a prefix, and runs of spaces collapsed; this kind ends texts with EOS.
    assert texts(write(tmp_path, {}, {}), "  the   cat ") == ["▁the", "▁c", "at", "</s>"]


def test_collapsing_takes_spaces_alone(tmp_path: Path) -> None:
    folder = write(tmp_path, BPE, {3: 1, 4: 1})
    assert texts(folder, " \n  the \n")[1:] == ["▁", "<0x0A>", "▁the", "▁", "<0x0A>"]
    tokenizer = tokenizer_from_folder(folder)
    assert tokenizer.decode([*tokenizer.encode("▁▁the")]) == "the"


def test_no_prefix(tmp_path: Path) -> None:
    folder = write(tmp_path, BPE, {3: 0, 4: 0})
    assert texts(folder, "the") == ["<s>", "the"]
    tokenizer = tokenizer_from_folder(folder)
    assert tokenizer.decode(tokenizer.encode(" the")) == " the"


def test_a_prefix_at_the_start_alone(tmp_path: Path) -> None:
    text = "the</s>the"
    assert texts(write(tmp_path, BPE, PLAIN), text) == ["<s>", "▁the", "</s>", "▁the"]
    folder = write(tmp_path, BPE, PLAIN, tokenizer_config='{"legacy": false}')
    assert texts(folder, text) == ["<s>", "▁the", "</s>", "the"]


def test_the_config_decides_about_bos(tmp_path: Path) -> None:
    config = '{"add_bos_token": false, "add_eos_token": true, "bos_token": "<s>", "eos_token": "</s>"}'
    assert texts(write(tmp_path, BPE, PLAIN, tokenizer_config=config), "the") == ["▁the", "</s>"]


def test_tokens_added_by_the_folder(tmp_path: Path) -> None:
    size = len(sentencepiece_pieces())
    config = f'{{"added_tokens_decoder": {{"{size}": {{"content": "<|im_end|>", "special": true}}}}}}'
    tokenizer = tokenizer_from_folder(write(tmp_path, BPE, PLAIN, tokenizer_config=config))
    assert tokenizer.encode("<|im_end|>", add_special_tokens=False) == [size]
    assert tokenizer.vocab_size == size + 1
    assert size in tokenizer.special_ids and size in tokenizer.eos_token_ids


@pytest.mark.parametrize(
    ("trainer", "normalizer", "reason"),
    [
        ({3: 3}, {}, "word"),
        ({3: 4}, {}, "char"),
        ({3: 9}, {}, "number 9"),
        ({3: 2, 24: 1}, {}, "suffixes"),
        ({3: 2}, {5: 0}, "escape spaces"),
    ],
)
def test_refusals(tmp_path: Path, trainer: dict[int, Any], normalizer: dict[int, Any], reason: str) -> None:
    with pytest.raises(UnsupportedModelError, match=reason):
        tokenizer_from_folder(write(tmp_path, trainer, normalizer))


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_damaged_files_are_named_and_nothing_else_happens(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = sentencepiece_file(sentencepiece_pieces()[:20], trainer=BPE, normalizer=PLAIN)
    cut = data.draw(st.integers(0, len(content) - 1))
    change = data.draw(st.binary(min_size=1, max_size=3))
    path = tmp_path_factory.getbasetemp() / "damaged.model"
    path.write_bytes(content[:cut] + change)
    try:
        sentencepiece.read_model(path)
    except (ModelFormatError, UnsupportedModelError) as error:
        assert str(error)
