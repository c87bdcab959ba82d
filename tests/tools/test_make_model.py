"""Models of random weights: both kinds of file hold the same model, and every format holds small values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from octavo.models.load import canonical_infos, read_spec
from octavo.text.load import load_text
from octavo.weights.hub import ModelFiles
from octavo.weights.loader import HostTensor, open_source
from tools.make_model.__main__ import main
from tools.make_model.folder import write_folder
from tools.make_model.gguf import tensor_format, write_gguf
from tools.make_model.shapes import SHAPES, Shape
from tools.make_model.values import DEVIATION, FORMATS
from tools.make_model.vocabulary import make_vocabulary

SCALED = Shape("s", 256, 2, 4, 2, 512, 700, 4096, 500_000.0, rope_scaling=(32.0, 1.0, 4.0, 1024))


def test_both_kinds_of_file_describe_one_model(tmp_path: Path) -> None:
    gguf = ModelFiles("a", "gguf", write_gguf(tmp_path / "a.gguf", SCALED, "F32"))
    folder = ModelFiles("b", "hf", write_folder(tmp_path / "b", SCALED, "F32"))
    one, other = read_spec(gguf), read_spec(folder)
    np.testing.assert_allclose(one.ropes[0].inv_freq, other.ropes[0].inv_freq, rtol=1e-6)
    assert (one.num_parameters, one.layer_windows, one.tied_embeddings, one.max_position) == (
        other.num_parameters, other.layer_windows, other.tied_embeddings, other.max_position
    )  # fmt: skip
    text = "Octavo counts to 1234, <|im_end|> and writes äöü in 漢字.\n"
    tokenizers = [load_text(files.path).tokenizer for files in (gguf, folder)]
    ids = [tokenizer.encode(text) for tokenizer in tokenizers]
    assert ids[0] == ids[1]
    assert tokenizers[0].decode(ids[0], skip_special_tokens=False) == text
    assert tokenizers[0].eos_token_ids == tokenizers[1].eos_token_ids
    assert len(make_vocabulary(70_000).tokens) == len(set(make_vocabulary(70_000).tokens)) == 70_000


@pytest.mark.parametrize("format", FORMATS)
def test_values_are_small_in_every_format(format: str, tmp_path: Path) -> None:
    files = ModelFiles("m", "gguf", write_gguf(tmp_path / "m.gguf", SHAPES["tiny"], format, seed=3))
    source = open_source(files)
    infos = canonical_infos(read_spec(files), source)
    assert {info.format for info in infos.values() if len(info.shape) > 1} == {format}
    values = HostTensor.of(source, "blk.1.ffn_up.weight").to_float32()
    assert values.std() == pytest.approx(DEVIATION, rel=0.1)
    assert abs(values.mean()) < DEVIATION / 10
    source.close()


def test_a_seed_is_a_model(tmp_path: Path) -> None:
    def made(seed: int) -> bytes:
        return write_gguf(tmp_path / "m.gguf", SHAPES["tiny"], "Q4_K", seed=seed).read_bytes()

    assert made(1) == made(1) != made(2)


def test_rows_that_are_no_whole_blocks_fall_back() -> None:
    small = SHAPES["smollm2-135m"]
    assert tensor_format(small, "model.layers.0.mlp.up_proj.weight", (1536, 576), "Q4_K") == "Q5_0"
    assert tensor_format(small, "model.layers.0.mlp.down_proj.weight", (576, 1536), "Q4_K") == "Q4_K"
    assert tensor_format(small, "model.norm.weight", (576,), "Q4_K") == "F32"
    large = SHAPES["llama3.2-1b"]
    assert tensor_format(large, "model.embed_tokens.weight", (128256, 2048), "Q4_K_M") == "Q6_K"
    assert tensor_format(large, "model.layers.3.self_attn.q_proj.weight", (2048, 2048), "Q4_K_M") == "Q4_K"


def test_the_command_makes_what_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert main(["tiny", "Q8_0"]) == 0
    path = Path(capsys.readouterr().out.strip())
    made = path.stat().st_mtime_ns
    assert path.is_relative_to(tmp_path)
    assert main(["tiny", "Q8_0"]) == 0
    assert path.stat().st_mtime_ns == made
    with pytest.raises(SystemExit):
        main(["tiny", "Q8_0", "--kind", "hf"])
    assert "not Q8_0" in capsys.readouterr().err
