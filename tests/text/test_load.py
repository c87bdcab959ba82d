"""Loading of all that belongs to text: templates in their many places, special tokens, recommended sampling."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from octavo.base.errors import InvalidRequestError, ModelFormatError
from octavo.text.load import load_text, text_from_gguf

from .test_folder import write_tokenizer
from .vocabularies import byte_level_metadata

ADDED = [("<s>", True), ("</s>", True)]
USER = [{"role": "user", "content": "Hi"}]


def write(folder: Path, files: dict[str, str], **config: Any) -> Path:
    write_tokenizer(folder, ADDED, tokenizer_config={"bos_token": "<s>", "eos_token": "</s>", **config})
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
    return folder


def names_and_prompts(folder: Path) -> dict[str, str]:
    return {name: template.render(USER) for name, template in load_text(folder).templates.items()}


class TestTemplatesOfAFolder:
    def test_in_the_config(self, tmp_path: Path) -> None:
        folder = write(tmp_path, {}, chat_template="{{ bos_token }}{{ eos_token }}C")
        assert names_and_prompts(folder) == {"default": "<s></s>C"}

    def test_several_in_the_config(self, tmp_path: Path) -> None:
        named = [{"name": "default", "template": "D"}, {"name": "tool_use", "template": "T"}]
        assets = load_text(write(tmp_path, {}, chat_template=named))
        assert {name: t.render(USER) for name, t in assets.templates.items()} == {"default": "D", "tool_use": "T"}
        assert assets.chat_template().render(USER) == "D"
        assert assets.chat_template(tools=True).render(USER) == "T"
        assert assets.chat_template(name="default", tools=True).render(USER) == "D"

    def test_a_file_of_its_own_comes_first(self, tmp_path: Path) -> None:
        assert names_and_prompts(write(tmp_path, {"chat_template.jinja": "F"}, chat_template="C")) == {"default": "F"}

    @pytest.mark.parametrize("directory", ["additional_chat_templates", "chat_templates"])
    def test_more_files(self, tmp_path: Path, directory: str) -> None:
        files = {"chat_template.jinja": "F", f"{directory}/tool_use.jinja": "T", f"{directory}/notes.txt": "no"}
        assert names_and_prompts(write(tmp_path, files)) == {"default": "F", "tool_use": "T"}

    def test_the_processors_file(self, tmp_path: Path) -> None:
        files = {"chat_template.json": json.dumps({"chat_template": "P"})}
        assert names_and_prompts(write(tmp_path, files, chat_template="C")) == {"default": "P"}

    @pytest.mark.parametrize("value", [3, [3], [{"name": "x"}], {"default": 3}])
    def test_nonsense_is_refused(self, tmp_path: Path, value: Any) -> None:
        with pytest.raises(ModelFormatError, match="chat_template"):
            load_text(write(tmp_path, {}, chat_template=value))

    def test_none(self, tmp_path: Path) -> None:
        assets = load_text(write(tmp_path, {}))
        with pytest.raises(InvalidRequestError, match=r"'default'.*none"):
            assets.chat_template()

    def test_a_broken_template_breaks_only_chat(self, tmp_path: Path) -> None:
        assets = load_text(write(tmp_path, {"chat_template.jinja": "{% if %}"}))
        assert assets.tokenizer.encode("he")
        with pytest.raises(InvalidRequestError, match="line 1"):
            assets.chat_template().render(USER)


def test_recommended_sampling_of_a_folder(tmp_path: Path) -> None:
    folder = write(tmp_path, {"generation_config.json": '{"temperature": 0.6, "top_k": 20}'})
    assert load_text(folder).generation == {"temperature": 0.6, "top_k": 20}


class TestGGUF:
    def metadata(self, **more: Any) -> dict[str, Any]:
        return byte_level_metadata() | {key.replace("__", "."): value for key, value in more.items()}

    def test_templates(self) -> None:
        metadata = self.metadata() | {
            "tokenizer.chat_template": "{{ bos_token }}D",
            "tokenizer.chat_templates": ["tool_use"],
            "tokenizer.chat_template.tool_use": "T{{ eos_token }}",
        }
        templates = text_from_gguf(metadata).templates
        prompts = {name: template.render(USER) for name, template in templates.items()}
        assert prompts == {"default": "<|bos|>D", "tool_use": "T<|end_of_text|>"}

    def test_recommended_sampling(self) -> None:
        metadata = self.metadata(general__sampling__temp=0.5, general__sampling__penalty_repeat=1.1)
        assert text_from_gguf(metadata).generation == {"temperature": 0.5, "repetition_penalty": 1.1}

    def test_a_file(self, shared_data: Path) -> None:
        assets = load_text([shared_data / "models/stories260K/stories260K.gguf"])
        assert assets.tokenizer.vocab_size == 512
        assert not assets.templates


def test_a_real_folder(shared_data: Path) -> None:
    assets = load_text(shared_data / "models/stories260K/hf")
    prompt = assets.chat_template().render(USER)
    assert "Hi" in prompt
    assert assets.tokenizer.encode("Once")[0] == assets.tokenizer.bos_token_id == 1


def test_text_does_not_load_torch() -> None:
    code = (
        "import sys, octavo.text.load\n"
        "heavy = {'torch', 'transformers', 'triton', 'sentencepiece', 'gguf', 'octavo._kernels'} & {*sys.modules}\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
