"""From files to weights: what is found, transformed, tied, ignored and refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from octavo.backends.reference import ReferenceBackend
from octavo.base.errors import ModelFormatError, ModelNotFoundError, UnsupportedModelError
from octavo.models.load import canonical_infos, load_weights, pairs_to_halves, read_spec, weight_format
from octavo.weights.hub import ModelFiles
from octavo.weights.loader import open_source
from octavo.weights.tensor import TensorInfo
from tests.models.checkpoint_editor import Tensors, edited, golden_files
from tests.models.harness import load, run_sequences


def loaded(files: ModelFiles) -> dict[str, np.ndarray]:
    spec, source = read_spec(files), open_source(files)
    with_values = load_weights(spec, source, ReferenceBackend())
    source.close()
    return {name: weight.float32() for name, weight in with_values.items()}


@pytest.mark.parametrize("name", ["llama_biases", "llama_mqa", "qwen3_head_dim", "gemma3_text"])
def test_both_kinds_of_file_give_the_same_weights(name: str) -> None:
    hf, gguf = loaded(golden_files(name)), loaded(golden_files(name, "gguf"))
    assert set(hf) == set(gguf) == set(read_spec(golden_files(name)).weights())
    for key in hf:
        assert np.array_equal(hf[key], gguf[key]), key


def test_infos_say_what_will_be_loaded() -> None:
    for name in ("llama2_mha", "gemma3_text"):
        files = golden_files(name)
        spec, source = read_spec(files), open_source(files)
        infos = canonical_infos(spec, source)
        weights = load_weights(spec, source, ReferenceBackend())
        for key, info in infos.items():
            assert (info.shape, info.format) == (weights[key].shape, weights[key].format)
        assert weight_format(infos) == "F32"
    assert infos["norm"].name == "model.norm.weight"
    assert "head" not in infos  # tied


def test_weight_format_names_the_most_used_first() -> None:
    shapes = {"a": ("Q4_K", (256, 256)), "b": ("Q6_K", (64, 256)), "c": ("F32", (256,)), "d": ("Q4_K", (9, 256))}
    infos = {k: TensorInfo(k, shape, kind, 0) for k, (kind, shape) in shapes.items()}
    assert weight_format(infos) == "Q4_K + Q6_K"


def test_pairs_to_halves_undoes_the_interleaving() -> None:
    original = np.arange(24)  # two heads of 12 rows
    interleaved = original.reshape(2, 2, 6).swapaxes(1, 2).reshape(-1)
    assert np.array_equal(interleaved[pairs_to_halves(24, 12)], original)


# ---------------------------------------------------------------- checkpoints with something wrong


def refusal(files: ModelFiles) -> Exception:
    with pytest.raises((ModelFormatError, UnsupportedModelError, ModelNotFoundError)) as caught:
        canonical_infos(read_spec(files), open_source(files))
    return caught.value


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    def drop(tensors: Tensors) -> Tensors:
        del tensors["model.layers.1.mlp.up_proj.weight"]
        return tensors

    error = refusal(edited("llama2_mha", tmp_path, drop))
    assert isinstance(error, ModelFormatError)
    assert "'model.layers.1.mlp.up_proj.weight' is missing" in str(error)


def test_a_misshapen_tensor_is_named(tmp_path: Path) -> None:
    error = refusal(edited("llama2_mha", tmp_path, config={"intermediate_size": 32}))
    assert isinstance(error, ModelFormatError)
    assert "mlp.gate_proj.weight' has the shape (24, 16), but the configuration makes it (32, 16)" in str(error)


def test_unused_tensors_are_refused(tmp_path: Path) -> None:
    error = refusal(edited("llama_biases", tmp_path, config={"attention_bias": False}))
    assert isinstance(error, UnsupportedModelError)
    assert "8 tensors" in str(error) and "model.layers.0.self_attn.k_proj.bias" in str(error)


def test_harmless_leftovers_are_ignored(tmp_path: Path) -> None:
    def add(tensors: Tensors) -> Tensors:
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = ("F32", (2,), bytes(8))
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]  # tied, and stored all the same
        return tensors

    files = edited("qwen2_biases", tmp_path, add)
    assert set(loaded(files)) == set(loaded(golden_files("qwen2_biases")))


@pytest.mark.parametrize("prefixes", [("language_model.", "vision_tower.x"), ("", "model.vision_tower.x")])
def test_gemma3_with_a_vision_tower(tmp_path: Path, prefixes: tuple[str, str]) -> None:
    def nest(tensors: Tensors) -> Tensors:
        prefix, vision = prefixes
        if prefix:
            renamed = {prefix + name: value for name, value in tensors.items()}
        else:
            renamed = {name.replace("model.", "model.language_model.", 1): value for name, value in tensors.items()}
        return {**renamed, f"{vision}.weight": ("F32", (1,), bytes(4))}

    files = edited("gemma3_text", tmp_path, nest)
    plain = loaded(golden_files("gemma3_text"))
    for name, values in loaded(files).items():
        assert np.array_equal(values, plain[name])


def test_quantized_checkpoints_are_refused_by_method(tmp_path: Path) -> None:
    error = refusal(edited("llama2_mha", tmp_path, config={"quantization_config": {"quant_method": "awq"}}))
    assert isinstance(error, UnsupportedModelError) and "'awq'" in str(error)


def test_a_folder_without_config(tmp_path: Path) -> None:
    assert "config.json" in str(refusal(ModelFiles("x", "hf", tmp_path)))
    (tmp_path / "config.json").write_text("{broken")
    assert "cannot be read as JSON" in str(refusal(ModelFiles("x", "hf", tmp_path)))


# ---------------------------------------------------------------- narrow and quantized weights


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_half_precision_checkpoints(tmp_path: Path, dtype: str) -> None:
    """Results equal those of the same values stored as float32."""

    def narrowed(values: np.ndarray) -> tuple[bytes, np.ndarray]:
        if dtype == "F16":
            half = values.astype(np.float16)
            return half.tobytes(), half.astype(np.float32)
        bits = values.view(np.uint32) >> 16
        return bits.astype(np.uint16).tobytes(), (bits << 16).view(np.float32)

    def narrow(tensors: Tensors) -> Tensors:
        return {n: (dtype, s, narrowed(np.frombuffer(raw, np.float32))[0]) for n, (_, s, raw) in tensors.items()}

    def rounded(tensors: Tensors) -> Tensors:
        return {n: (d, s, narrowed(np.frombuffer(raw, np.float32))[1].tobytes()) for n, (d, s, raw) in tensors.items()}

    backend = ReferenceBackend()
    results = []
    for change in (narrow, rounded):
        folder = tmp_path / change.__name__
        folder.mkdir()
        model = load(edited("gemma3_text", folder, change).path, backend)
        results.append(run_sequences(backend, model.spec, model.weights, [[3, 1, 4, 1, 5, 9, 2, 6]])[0])
    assert np.array_equal(*results)


def test_quantized_gguf(shared_data: Path) -> None:
    """tiny_llama_q8.gguf gives just what its dequantized weights give."""
    from octavo.backends.reference.ops import ReferenceWeight

    backend = ReferenceBackend()
    model = load(shared_data / "arch_fixtures" / "gguf" / "tiny_llama_q8.gguf", backend)
    assert {w.format for w in model.weights.values()} == {"Q8_0", "F32"}
    wide = {}
    for name, weight in model.weights.items():
        values = weight.float32()
        wide[name] = ReferenceWeight("F32", values.shape, values.view(np.uint8).reshape(len(values), -1))
    sequence = [[0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3]]
    narrow = run_sequences(backend, model.spec, model.weights, sequence)[0]
    assert np.isfinite(narrow).all() and narrow.std() > 0.01
    assert np.array_equal(narrow, run_sequences(backend, model.spec, wide, sequence)[0])
