"""Request bodies of Ollama's API and how their options become SamplingParams.

A field works, is neutral (a hint about hardware that never changes an answer), or is refused by name. Sources:
Ollama's API page and its list of Modelfile parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from octavo.base.errors import InvalidRequestError, UnsupportedError
from octavo.base.messages import plain_tools
from octavo.base.sampling import SamplingParams
from octavo.server.http import validated

# What Ollama samples with where neither the request nor the model says otherwise.
_DEFAULTS: dict[str, Any] = {"temperature": 0.8, "top_k": 40, "top_p": 0.9}
_RENAMED = {"num_predict": "max_tokens", "repeat_penalty": "repetition_penalty"}
_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "seed", "stop", "presence_penalty", "frequency_penalty")
_HARDWARE = frozenset({
    "num_batch", "num_gpu", "main_gpu", "use_mmap", "use_mlock", "num_thread", "numa", "low_vram", "f16_kv", "num_keep",
    "draft_num_predict",
})  # fmt: skip
_NEUTRAL: dict[str, tuple[object, ...]] = {  # options that are not done, and the values of theirs that ask for nothing
    "typical_p": (1, 1.0),
    "tfs_z": (1, 1.0),
    "mirostat": (0,),
    "mirostat_tau": (5, 5.0),
    "mirostat_eta": (0.1,),
    "penalize_newline": (False,),
    "repeat_last_n": (-1,),
}


class AskBody(BaseModel):
    """The fields that generate and chat share."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)
    model: str
    stream: bool = True
    format: str | dict[str, Any] | None = None
    options: dict[str, Any] = {}
    think: bool | str | None = None
    keep_alive: str | int | float | None = None
    truncate: bool | None = None
    shift: bool | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None

    def refuse_unsupported(self) -> None:
        if self.format not in (None, ""):
            raise UnsupportedError("format is not supported by this server yet: leave it out.", param="format")
        for name in ("truncate", "shift"):
            if getattr(self, name):
                raise UnsupportedError(
                    f"{name} is not supported: a prompt that is too long is refused, never cut.", param=name
                )
        if self.logprobs or self.top_logprobs:
            raise UnsupportedError("logprobs are had at /v1/chat/completions, not here.", param="logprobs")
        if self.keep_alive in (0, "0", "0s", "0m"):
            raise UnsupportedError("keep_alive 0 would unload the model that this server serves.", param="keep_alive")

    @property
    def variables(self) -> dict[str, Any]:
        """What the chat template is told about thinking."""
        if self.think is None:
            return {}
        level = {"reasoning_effort": self.think} if isinstance(self.think, str) else {}
        return {"enable_thinking": bool(self.think), **level}

    def sampling(self, defaults: Mapping[str, Any], max_model_len: int) -> SamplingParams:
        """
        Raises:
            InvalidRequestError: an option out of its range.
            UnsupportedError: an option that this server does not do, by name.
        """
        values: dict[str, Any] = {**_DEFAULTS, **defaults, "max_tokens": None}
        for name, value in self.options.items():
            if value is None or name in _HARDWARE:
                continue
            if name == "num_ctx":
                _check_context(value, max_model_len)
            elif name in _SAMPLING or name in _RENAMED:
                values[_RENAMED.get(name, name)] = value
            elif name not in _NEUTRAL:
                raise InvalidRequestError(f"options.{name}: no such option.", param=f"options.{name}")
            elif not self._neutral(name, value):
                raise UnsupportedError(f"options.{name} is not supported by this server: leave it out.",
                                       param=f"options.{name}")  # fmt: skip
        if isinstance(values["max_tokens"], int) and values["max_tokens"] < 0:
            values["max_tokens"] = None  # -1 and -2: until the model ends or the context is full
        if values.get("seed") == 0:
            values["seed"] = None
        return SamplingParams(**values)

    def _neutral(self, name: str, value: object) -> bool:
        if name == "repeat_last_n" and self.options.get("repeat_penalty", 1.0) == 1.0:
            return True  # a window of a penalty that is off
        return value in _NEUTRAL[name]


class GenerateBody(AskBody):
    """POST /api/generate."""

    prompt: str = ""
    suffix: str | None = None
    system: str | None = None
    template: str | None = None
    raw: bool = False
    images: list[Any] | None = None
    context: list[int] | None = None


class ChatBody(AskBody):
    """POST /api/chat."""

    messages: list[dict[str, Any]] = []
    tools: Any = None  # checked by octavo.base.messages


def generate_body(body: dict[str, Any]) -> GenerateBody:
    asked = validated(GenerateBody, _given(body))
    asked.refuse_unsupported()
    for name in ("suffix", "template", "images"):
        if getattr(asked, name):
            raise UnsupportedError(f"{name} is not supported by this server: leave it out.", param=name)
    for name in ("system", "context", "think"):
        if asked.raw and getattr(asked, name):
            raise InvalidRequestError(f"{name} has no place in a raw prompt: leave out {name} or raw.", param=name)
    return asked


def chat_body(body: dict[str, Any]) -> ChatBody:
    asked = validated(ChatBody, _given(body))
    asked.refuse_unsupported()
    asked.tools = plain_tools(asked.tools)
    for at, message in enumerate(asked.messages):
        if message.get("images"):
            raise UnsupportedError(f"messages[{at}].images: this server reads no images.", param="images")
    return asked


def chat_messages(body: ChatBody) -> list[dict[str, Any]]:
    """The messages as chat templates take them."""
    messages = []
    for message in body.messages:
        plain = {name: value for name, value in message.items() if name not in ("images", "thinking", "tool_name")}
        if message.get("thinking"):
            plain["reasoning_content"] = message["thinking"]
        if message.get("tool_name"):
            plain["name"] = message["tool_name"]
        messages.append(plain)
    return messages


def _given(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}


def _check_context(value: object, max_model_len: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidRequestError(
            f"options.num_ctx must be a positive integer, got {value!r}.", param="options.num_ctx"
        )
    if value > max_model_len:
        raise InvalidRequestError(
            f"options.num_ctx is {value}, but this server holds {max_model_len} tokens: ask for no more, or start it "
            f"with --max-model-len {value}.",
            param="options.num_ctx",
        )
