"""Local names: paths, folders, aliases."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from octavo.base.errors import ConfigError, ModelError, ModelFormatError, ModelNotFoundError
from octavo.weights.hub import ModelFiles, aliases
from octavo.weights.loader import open_source
from tests.weights.gguf_writer import write_gguf, write_split_gguf
from tests.weights.hub_server import HubServer, Repo
from tests.weights.models_made import (
    SIDE_FILES,
    STORED,
    checkpoint,
    get,
    gguf,
    quant_name,
)
from tests.weights.safetensors_writer import write_safetensors


def test_local_files_and_folders(tmp_path: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gguf(tmp_path / "m.gguf", {}, STORED)
    blob = path.rename(tmp_path / "sha256-0123")  # as other stores name their GGUF files
    assert get(str(blob)) == ModelFiles(str(blob), "gguf", blob)
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(ModelNotFoundError, match="holds no weights"):
        get(str(folder))
    write_gguf(folder / "m-Q8_0.gguf", {}, STORED)
    write_gguf(folder / "mmproj-m.gguf", {}, STORED)
    assert get(str(folder)).path == folder / "m-Q8_0.gguf"
    write_gguf(folder / "m-Q4_0.gguf", {}, STORED)
    with pytest.raises(ModelNotFoundError, match=r"name the file: m-Q4_0\.gguf, m-Q8_0\.gguf"):
        get(str(folder))
    write_safetensors(folder / "model.safetensors", STORED)
    with pytest.raises(ModelFormatError, match=r"config\.json is missing"):
        get(str(folder))
    (folder / "config.json").write_text("{}")
    for name in (folder, folder / "model.safetensors"):
        assert get(str(name)) == ModelFiles(str(name), "hf", folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for relative in ("folder", "./folder", "~/folder"):
        assert get(relative).path.resolve() == folder
    with pytest.raises(ConfigError, match="belongs to Hub repositories"):
        get("folder", revision="main")
    assert not hub.seen


def test_local_files_of_other_kinds(tmp_path: Path) -> None:
    for name, error, words in (
        ("model.bin", ModelFormatError, "never opened"),
        ("notes.txt", ModelFormatError, "neither a GGUF file nor"),
    ):
        (tmp_path / name).write_bytes(b"text")
        with pytest.raises(error, match=words):
            get(str(tmp_path / name))
    write_safetensors(tmp_path / "m.gguf", STORED)
    with pytest.raises(ModelError, match="not a GGUF file"):
        open_source(get(str(tmp_path / "m.gguf")))


def test_missing_local_files_get_suggestions(tmp_path: Path, hub: HubServer) -> None:
    write_gguf(tmp_path / "tiny-model.gguf", {}, STORED)
    with pytest.raises(ModelNotFoundError, match=r"Did you mean .*tiny-model\.gguf\?"):
        get(str(tmp_path / "tiny-modell.gguf"))
    for name in ("missing.gguf", "./missing/model", "/missing/model", "~/missing/model", "bare-name", "a b/c", ""):
        with pytest.raises(ModelNotFoundError, match="org/name"):
            get(name)
    assert not hub.seen


def test_aliases(tmp_path: Path, hub: HubServer) -> None:
    assert Path(aliases()["octavo-demo"]).parts[-3:] == ("octavo", "demo", "octavo-demo.gguf")
    path = write_gguf(tmp_path / "m.gguf", {}, STORED)
    hub.repos["org/m"] = Repo({"m-Q8_0.gguf": gguf("Q8_0")})
    home = tmp_path / "octavo"
    home.mkdir()
    entries = {"mine": str(path), "again": "mine", "remote": "org/m:Q8_0", "a": "b", "b": "a"}
    (home / "aliases.json").write_text(json.dumps(entries))
    assert get("mine") == ModelFiles("mine", "gguf", path)
    assert get("again") == ModelFiles("again", "gguf", path)
    assert quant_name(get("remote")) == "Q8_0"
    with pytest.raises(ModelNotFoundError, match=r"Did you mean mine\?"):
        get("minee")
    with pytest.raises(ConfigError, match=r"in a circle: a -> b -> a"):
        get("a")
    for text in ("[1]", '{"a": 1}', "{"):
        (home / "aliases.json").write_text(text)
        with pytest.raises(ConfigError, match=r"aliases\.json"):
            get("mine")


def test_nothing_heavy_is_imported_for_models_that_are_here(tmp_path: Path, hub: HubServer) -> None:
    hub.repos["org/model"] = Repo({**SIDE_FILES, **checkpoint(tmp_path)})
    get("org/model")
    path = write_gguf(tmp_path / "m.gguf", {}, STORED)
    code = (
        "import sys; from octavo.weights.hub import resolve; from octavo.weights import loader\n"
        "for name in sys.argv[1:]: loader.open_source(resolve(name))\n"
        "heavy = {'huggingface_hub', 'httpx', 'httpx2', 'tqdm', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code, "org/model", str(path)], check=True, cwd=Path(__file__).parents[2])


def test_any_part_of_a_split_file_names_the_model(tmp_path: Path) -> None:
    paths = write_split_gguf(tmp_path, "m", {}, STORED, 2)
    for path in paths:
        assert get(str(path)).path == paths[0]
