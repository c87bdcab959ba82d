"""Chat templates: messages to one prompt text.

Owns the Jinja environment, which renders as transformers does, byte for byte, and turns a template's failures into
clear 400s. Does not know tokenizers or dialects. Source: transformers' chat template conventions.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2
import jinja2.exceptions
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox
import jinja2.utils
from jinja2.ext import Extension

from octavo.base.errors import ChatTemplateError, InvalidRequestError

MAX_PROMPT_CHARACTERS = 64 << 20
_CONTINUE_MARK = "CONTINUE_FINAL_MESSAGE_TAG "
_REASONING_FIELDS = ("reasoning_content", "thinking", "reasoning")
_TEMPLATE_FILE = "<template>"


class ChatTemplate:
    """One compiled-on-first-use template of a model.

    `source` is the Jinja text, `name` what the model's files call it ("default", "tool_use"), `defaults` are variables
    that every rendering sees (the special tokens' texts), `clock` is what strftime_now reads.
    """

    def __init__(
        self,
        source: str,
        name: str = "default",
        *,
        defaults: Mapping[str, Any] | None = None,
        clock: Callable[[], datetime] = datetime.now,
    ) -> None:
        self.source = source
        self.name = name
        self._defaults = dict(defaults or {})
        self._clock = clock
        self._lock = threading.Lock()
        self._compiled: jinja2.Template | None = None

    def compile(self) -> jinja2.Template:
        """The compiled template. Raises ChatTemplateError, with the line, when it is not valid Jinja."""
        with self._lock:
            if self._compiled is None:
                try:
                    self._compiled = _environment(self._clock).from_string(self.source)
                except jinja2.TemplateSyntaxError as error:
                    where = f"{self._label} cannot be compiled: line {error.lineno}: {error.message}"
                    raise ChatTemplateError(where, param="chat_template") from error
                except (RecursionError, MemoryError) as error:
                    raise ChatTemplateError(f"{self._label} is nested too deeply.", param="chat_template") from error
            return self._compiled

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt for `messages`.

        `variables` (chat_template_kwargs) are seen by the template and win over the special tokens' names. With
        `continue_final_message` the prompt ends where the last message ends, so that the model goes on writing it.
        Message fields that are None are left out, as templates expect. Raises ChatTemplateError when the template
        refuses the messages or fails, with its line; InvalidRequestError for arguments that contradict each other.
        """
        chat = _conversation(messages)
        if continue_final_message:
            if add_generation_prompt:
                raise InvalidRequestError(
                    "continue_final_message and add_generation_prompt exclude each other: set one of them to false.",
                    param="continue_final_message",
                )
            final = _mark_final(chat, self.source)
        context = {
            **self._defaults,
            **_plain(dict(variables or {}), "chat_template_kwargs"),
            "messages": chat,
            "tools": _plain(tools, "tools"),
            "documents": _plain(documents, "documents"),
            "add_generation_prompt": add_generation_prompt,
        }
        prompt = self._render_optional(context)
        return _cut_at_mark(prompt, final) if continue_final_message else prompt

    def _render_optional(self, context: dict[str, Any]) -> str:
        """Render with absent tools as None, as transformers does; leave them undefined for a template that cannot
        take None (some loop over the tools without asking)."""
        try:
            return self._run(context)
        except ChatTemplateError as error:
            if context["tools"] is not None or not isinstance(error.__cause__, TypeError):
                raise
            try:
                return self._run({name: value for name, value in context.items() if name != "tools"})
            except ChatTemplateError:
                raise error from error.__cause__

    def _run(self, context: dict[str, Any]) -> str:
        template = self.compile()
        pieces: list[str] = []
        total = 0
        try:
            for piece in template.generate(context):
                total += len(piece)
                if total > MAX_PROMPT_CHARACTERS:
                    raise jinja2.TemplateRuntimeError(f"it writes more than {MAX_PROMPT_CHARACTERS} characters")
                pieces.append(piece)
        except RecursionError as error:
            raise ChatTemplateError(f"{self._label} recurses without end.", param="messages") from error
        except Exception as error:  # whatever a template does wrong is the request's or the model's fault, not ours
            raise self._failure(error) from error
        return "".join(pieces)

    def _failure(self, error: Exception) -> ChatTemplateError:
        line = _template_line(error)
        place = f" (line {line})" if line else ""
        kind = "" if type(error) is jinja2.TemplateError else f"{type(error).__name__}: "
        return ChatTemplateError(f"{self._label} refused the messages{place}: {kind}{error}", param="messages")

    @property
    def _label(self) -> str:
        return "The chat template" if self.name == "default" else f"The chat template {self.name!r}"


def _template_line(error: Exception) -> int | None:
    """The line of the template in which the error was raised; Jinja maps its frames back to template lines."""
    line, frame = None, error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == _TEMPLATE_FILE:
            line = frame.tb_lineno
        frame = frame.tb_next
    return line


def _conversation(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A fresh copy of the messages in plain data, as templates expect them."""
    if not messages:
        raise InvalidRequestError("The conversation is empty: give at least one message.", param="messages")
    chat: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise InvalidRequestError(f"messages[{index}] must be an object.", param="messages")
        plain = _plain({key: value for key, value in message.items() if value is not None}, f"messages[{index}]")
        reasoning = next((plain[key] for key in _REASONING_FIELDS if plain.get(key) is not None), None)
        if reasoning is not None:  # it goes by several names; templates read one of two
            plain = {"thinking": reasoning, **plain, "reasoning_content": reasoning}
        chat.append(plain)
    return chat


def _plain(value: Any, where: str) -> Any:
    """A deep copy in JSON types only: objects with methods must not reach a template that came from outside."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item, where) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, where) for item in value]
    if isinstance(value, str):  # a subclass, such as an enumeration's member
        return str.__str__(value)
    raise InvalidRequestError(f"{where}: a chat template cannot be given a {type(value).__name__}.", param=where)


def _mark_final(chat: list[dict[str, Any]], source: str) -> str:
    """Put the mark at the end of the last message's text and return that text."""
    content = chat[-1].get("content")
    if isinstance(content, list):
        for block in reversed(content):
            if isinstance(block, dict) and isinstance(block.get("text"), str):
                text: str = block["text"]
                block["text"] = text + _CONTINUE_MARK
                return text
    if not isinstance(content, str) or "content" not in source:
        raise InvalidRequestError(
            "continue_final_message needs a last message with text content, which the template writes.",
            param="continue_final_message",
        )
    chat[-1]["content"] = content + _CONTINUE_MARK
    return content


def _cut_at_mark(prompt: str, final: str) -> str:
    at = prompt.rfind(_CONTINUE_MARK.strip())
    if at < 0 or final.strip() not in prompt:
        raise ChatTemplateError(
            "continue_final_message: the chat template does not write the last message unchanged, so it cannot be "
            "continued.",
            param="continue_final_message",
        )
    # A template that trims messages took the mark's last space away; then trim what it would have trimmed.
    kept = prompt.startswith(_CONTINUE_MARK, at)
    return prompt[:at] if kept else prompt[:at].rstrip()


class _GenerationBlocks(Extension):
    """`{% generation %}` marks the assistant's words for training; when serving, its body is all that matters."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's declaration

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("_body")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _body(self, caller: Callable[[], str]) -> str:
        return caller()


class _Namespace(jinja2.utils.Namespace):
    """Jinja's namespace, minus underscored names: nothing of Python's internals may be reached through it."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # as Jinja's, so that `namespace(self=...)` works
        self, args = args[0], args[1:]
        attributes = dict(*args, **kwargs)
        for name in attributes:
            _check_name(name)
        jinja2.utils.Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace cannot hold the underscored name {name!r}")


class _Dict:
    """`dict(...)` for templates, without the class and its attributes."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, keys: Any, value: Any = None) -> dict[Any, Any]:
        return dict.fromkeys(keys, value)


def _environment(clock: Callable[[], datetime]) -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlocks, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["dict"] = _Dict()
    environment.globals["namespace"] = _Namespace
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda format: clock().strftime(format)
    return environment


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes HTML; prompts must not be escaped.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
