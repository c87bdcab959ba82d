"""The formats of tool calls, as data: how a call is marked, in which notation it is, and which templates mean it.

Sources: the chat templates of the models named, and the tool-use pages of their makers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from octavo.text.calls.bodies import (
    BarePythonCalls,
    Body,
    Calls,
    FunctionTags,
    JsonBody,
    KeyValueTags,
    MistralBody,
    NamedBody,
    PythonCalls,
    Schemas,
)

BodyMaker = Callable[[Calls, str, tuple[str, ...], Schemas], Body]


@dataclass(frozen=True)
class CallFormat:
    """One format.

    `opening` are the marks that begin a call, `ends` those that close one, `noise` marks that only wrap, `inner` marks
    within a call. `bare` finds calls that no mark begins: its match stays part of the call; `bare_first` says that such
    a call is the whole answer. `templates` are texts that a chat template has if its model writes so.
    """

    name: str
    body: BodyMaker
    opening: tuple[str, ...] = ()
    ends: tuple[str, ...] = ()
    noise: tuple[str, ...] = ()
    inner: tuple[str, ...] = ()
    bare: str = ""
    bare_first: bool = False
    templates: tuple[str, ...] = ()

    @property
    def marks(self) -> tuple[str, ...]:
        """All texts that tell calls from words: they must not be hidden, be they special tokens or not."""
        return (*self.opening, *self.ends, *self.noise, *self.inner)


def _json(*, strict: bool = False) -> BodyMaker:
    return lambda calls, mark, ends, _: JsonBody(calls, mark, ends, strict=strict)


def _named(header: str) -> BodyMaker:
    pattern = re.compile(header, re.DOTALL)
    return lambda calls, mark, ends, _: NamedBody(calls, mark, pattern, ends)


_DEEPSEEK = ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>")
_KIMI = ("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>")

# The first whose text a template has is the one it means: the more particular come first.
_ALL = (
    CallFormat(
        "qwen3_coder",
        FunctionTags,
        opening=("<tool_call>",),
        ends=("</function>\n</tool_call>", "</tool_call>"),
        bare="<function=",
        templates=("<function=",),
    ),
    CallFormat(
        "glm4",
        KeyValueTags,
        opening=("<tool_call>",),
        ends=("</tool_call>",),
        inner=("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"),
        templates=("<arg_key>",),
    ),
    CallFormat(
        "mistral",
        lambda calls, mark, _, __: MistralBody(calls, mark),
        opening=("[TOOL_CALLS]",),
        inner=("[ARGS]", "[CALL_ID]"),
        templates=("[TOOL_CALLS]",),
    ),
    CallFormat(
        "deepseek_v3",
        _named(r"function<｜tool▁sep｜>(?P<name>[^\n{]+)\n```json\n"),
        opening=("<｜tool▁call▁begin｜>",),
        ends=("\n```<｜tool▁call▁end｜>", "<｜tool▁call▁end｜>"),
        noise=_DEEPSEEK,
        inner=("<｜tool▁sep｜>",),
        templates=("```json",),
    ),
    CallFormat(
        "deepseek_v31",
        _named(r"(?P<name>[^\n{<]+)<｜tool▁sep｜>"),
        opening=("<｜tool▁call▁begin｜>",),
        ends=("<｜tool▁call▁end｜>",),
        noise=_DEEPSEEK,
        inner=("<｜tool▁sep｜>",),
        templates=("<｜tool▁calls▁begin｜>",),
    ),
    CallFormat(
        "kimi_k2",
        _named(r"\s*(functions\.)?(?P<name>[\w.\-]+?)(:\d+)?\s*<\|tool_call_argument_begin\|>\s*"),
        opening=("<|tool_call_begin|>",),
        ends=("<|tool_call_end|>",),
        noise=_KIMI,
        inner=("<|tool_call_argument_begin|>",),
        templates=(_KIMI[0],),
    ),
    CallFormat("jamba", _json(), ("<tool_calls>",), ("</tool_calls>",), templates=("<tool_calls>",)),
    CallFormat("granite", _json(), ("<|tool_call|>", "<tool_call>"), templates=("<|tool_call|>",)),
    CallFormat("granite_20b", _json(), ("<function_call>",), templates=("<function_call>",)),
    CallFormat("phi4_mini", _json(), ("functools",), templates=("functools[",)),
    CallFormat("internlm2", _json(), ("<|action_start|><|plugin|>",), ("<|action_end|>",), templates=("<|plugin|>",)),
    CallFormat("olmo3", PythonCalls, ("<function_calls>",), ("</function_calls>",), templates=("<function_calls>",)),
    CallFormat("hermes", _json(), ("<tool_call>",), ("</tool_call>",), templates=("<tool_call>",)),
    CallFormat(
        "pythonic",
        BarePythonCalls,
        ends=("<|python_end|>",),
        noise=("<|python_start|>", "<|python_end|>"),
        bare="[",
        bare_first=True,
        templates=("func_name1(", "[func_name", "<|python_start|>"),
    ),
    CallFormat(
        "llama3_json",
        _json(strict=True),
        ends=("<|eom_id|>",),
        noise=("<|python_tag|>",),
        bare="{",
        templates=("<|python_tag|>", '{"name": function name, "parameters"'),
    ),
)
FORMATS = {format.name: format for format in _ALL}


def format_of_template(source: str) -> CallFormat | None:
    """The format that a chat template shows its model; None if it shows none that is known here."""
    for format in _ALL:
        if any(text in source for text in format.templates):
            if format.name == "deepseek_v3" and _DEEPSEEK[0] not in source:
                continue
            return format
    return None
