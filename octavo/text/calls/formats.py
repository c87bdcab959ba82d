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

BodyMaker = Callable[[Calls, str, Schemas], Body]


@dataclass(frozen=True)
class CallFormat:
    """One format.

    `opening` are the marks that begin a call, `noise` marks that only wrap. `bare` finds calls that no mark begins:
    its match stays part of the call; `bare_first` says that such a call is the whole answer. `templates` are texts that
    a chat template has if its model writes so.
    """

    name: str
    body: BodyMaker
    opening: tuple[str, ...] = ()
    noise: tuple[str, ...] = ()
    bare: str = ""
    bare_first: bool = False
    templates: tuple[str, ...] = ()


def _json(*ends: str, strict: bool = False) -> BodyMaker:
    return lambda calls, mark, _: JsonBody(calls, mark, ends, strict=strict)


def _named(header: str, *ends: str) -> BodyMaker:
    pattern = re.compile(header, re.DOTALL)
    return lambda calls, mark, _: NamedBody(calls, mark, pattern, ends)


def _enclosed(kind: type[FunctionTags | KeyValueTags | PythonCalls | BarePythonCalls], *ends: str) -> BodyMaker:
    return lambda calls, mark, schemas: kind(calls, mark, ends, schemas)


_DEEPSEEK = ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>")
_KIMI = ("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>")

# The first whose text a template has is the one it means: the more particular come first.
_ALL = (
    CallFormat(
        "qwen3_coder",
        _enclosed(FunctionTags, "</function>\n</tool_call>", "</tool_call>"),
        opening=("<tool_call>",),
        bare="<function=",
        templates=("<function=",),
    ),
    CallFormat(
        "glm4",
        _enclosed(KeyValueTags, "</tool_call>"),
        opening=("<tool_call>",),
        templates=("<arg_key>",),
    ),
    CallFormat(
        "mistral",
        lambda calls, mark, _: MistralBody(calls, mark),
        opening=("[TOOL_CALLS]",),
        templates=("[TOOL_CALLS]",),
    ),
    CallFormat(
        "deepseek_v3",
        _named(
            r"function<｜tool▁sep｜>(?P<name>[^\n{]+)\n```json\n", "\n```<｜tool▁call▁end｜>", "<｜tool▁call▁end｜>"
        ),
        opening=("<｜tool▁call▁begin｜>",),
        noise=_DEEPSEEK,
        templates=("```json",),
    ),
    CallFormat(
        "deepseek_v31",
        _named(r"(?P<name>[^\n{<]+)<｜tool▁sep｜>", "<｜tool▁call▁end｜>"),
        opening=("<｜tool▁call▁begin｜>",),
        noise=_DEEPSEEK,
        templates=("<｜tool▁calls▁begin｜>",),
    ),
    CallFormat(
        "kimi_k2",
        _named(r"\s*(functions\.)?(?P<name>[\w.\-]+?)(:\d+)?\s*<\|tool_call_argument_begin\|>\s*", "<|tool_call_end|>"),
        opening=("<|tool_call_begin|>",),
        noise=_KIMI,
        templates=(_KIMI[0],),
    ),
    CallFormat("jamba", _json("</tool_calls>"), opening=("<tool_calls>",), templates=("<tool_calls>",)),
    CallFormat(
        "granite",
        _json(),
        opening=("<|tool_call|>", "<tool_call>"),
        templates=("<|tool_call|>",),
    ),
    CallFormat("granite_20b", _json(), opening=("<function_call>",), templates=("<function_call>",)),
    CallFormat("phi4_mini", _json(), opening=("functools",), templates=("functools[",)),
    CallFormat(
        "internlm2",
        _json("<|action_end|>"),
        opening=("<|action_start|><|plugin|>",),
        templates=("<|plugin|>",),
    ),
    CallFormat(
        "olmo3",
        _enclosed(PythonCalls, "</function_calls>"),
        opening=("<function_calls>",),
        templates=("<function_calls>",),
    ),
    CallFormat("hermes", _json("</tool_call>"), opening=("<tool_call>",), templates=("<tool_call>",)),
    CallFormat(
        "pythonic",
        _enclosed(BarePythonCalls, "<|python_end|>"),
        noise=("<|python_start|>", "<|python_end|>"),
        bare="[",
        bare_first=True,
        templates=("func_name1(", "[func_name", "<|python_start|>"),
    ),
    CallFormat(
        "llama3_json",
        _json("<|eom_id|>", strict=True),
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
