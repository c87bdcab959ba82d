"""ModelText: tokenizer, chat template and sampling defaults of one model: the text plane of LLM and of servers.

Knows no engine and no dialect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from octavo.base.config import EngineArgs
from octavo.base.errors import ConfigError, InvalidRequestError, PromptTooLongError
from octavo.base.messages import plain_messages
from octavo.text.chat import ChatTemplate
from octavo.text.load import TextAssets, load_text
from octavo.text.sampling_defaults import sampling_defaults
from octavo.weights.hub import ModelFiles

_SURE_CHARACTERS = 16  # per token: only longer texts are worth a look at how long tokens are


class ModelText:
    """What a model says about text, from its files and the options."""

    def __init__(self, args: EngineArgs, files: ModelFiles) -> None:
        self.assets = load_text(_tokenizer_path(args, files))
        self.tokenizer = self.assets.tokenizer
        self.defaults = sampling_defaults(self.assets.generation)
        self._template = _own_template(args, self.assets)

    def template(self, *, tools: bool = False) -> ChatTemplate:
        """
        Raises:
            InvalidRequestError: the model has no chat template and none was given.
        """
        return self._template or self.assets.chat_template(tools=tools)

    def template_source(self, *, tools: bool = False) -> str:
        """The template's text, which tells how the model marks calls and reasoning; "" where there is none."""
        try:
            return self.template(tools=tools).source
        except InvalidRequestError:
            return ""

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt of a conversation; contents may be lists of text parts, as in OpenAI's messages."""
        template = self.template(tools=bool(tools))
        return template.render(
            _known_roles(plain_messages(messages), template),
            tools=tools,
            add_generation_prompt=add_generation_prompt and not continue_final_message,
            continue_final_message=continue_final_message,
            variables=variables,
        )

    def shown(self, token_id: int) -> str:
        """What a token adds to a text; a part of a character is shown as a replacement character."""
        raw = self.tokenizer.token_bytes(token_id)
        return raw.decode("utf-8", "replace") if raw else self.tokenizer.token_text(token_id)

    def encode(self, text: str, *, add_special_tokens: bool = True, limit: int | None = None) -> list[int]:
        """Token ids of a text.

        Raises:
            PromptTooLongError: it has more than `limit` tokens for certain, which is seen without tokenizing it.
        """
        if limit is not None and len(text) > _SURE_CHARACTERS * limit:
            at_least = (len(text) - sum(map(text.count, " \t\r\n"))) // self._longest_token_bytes
            if at_least >= limit:
                raise PromptTooLongError(at_least, limit, param="prompt", counted=False)
        return self.tokenizer.encode(text, add_special_tokens=add_special_tokens)

    def encode_rendered(self, prompt: str, *, limit: int | None = None) -> list[int]:
        """Token ids of a rendered template, which brings its own special tokens; see `encode`."""
        return self.encode(prompt, add_special_tokens=False, limit=limit)

    @cached_property
    def _longest_token_bytes(self) -> int:
        return max(len(self.tokenizer.token_bytes(i)) for i in range(self.tokenizer.vocab_size))


def _known_roles(messages: list[dict[str, Any]], template: ChatTemplate) -> list[dict[str, Any]]:
    """OpenAI's newer name of the system role as templates know it, unless this one knows the new name."""
    if "developer" in template.source:
        return messages
    return [{**m, "role": "system"} if m["role"] == "developer" else m for m in messages]


def _tokenizer_path(args: EngineArgs, files: ModelFiles) -> Path:
    if args.tokenizer is None:
        return files.path
    path = Path(args.tokenizer).expanduser()
    if not path.exists():
        raise ConfigError(f"tokenizer {args.tokenizer!r} is not a folder or file on this machine.")
    return path


def _own_template(args: EngineArgs, assets: TextAssets) -> ChatTemplate | None:
    if args.chat_template is None:
        return None
    path = Path(args.chat_template).expanduser()
    try:
        source = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read the chat template {path}: {error}.") from error
    return ChatTemplate(source, path.name, defaults=assets.special_tokens)
