"""The chat template of the demo model (ChatML, Hermes-style tools) and its rendering for training.

The template is the one shipped in the GGUF; training text is rendered from it and from nothing else.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tools.train_demo.dialogue import Dialogue, Message

IM_START, IM_END, END_OF_TEXT = "<|im_start|>", "<|im_end|>", "<|endoftext|>"

CHAT_TEMPLATE = """\
{%- if messages[0]['role'] == 'system' %}
    {%- set system_text = messages[0]['content'] %}
    {%- set turns = messages[1:] %}
{%- else %}
    {%- set system_text = '' %}
    {%- set turns = messages %}
{%- endif %}
{%- if system_text or tools %}
    {{- '<|im_start|>system\\n' + system_text }}
    {%- if tools %}
        {{- '\\n\\n' if system_text else '' }}
        {{- 'Call a tool as <tool_call>{"name": ..., "arguments": {...}}</tool_call>\\n<tools>' }}
        {%- for tool in tools %}
            {{- '\\n' + (tool.function if tool.function is defined else tool) | tojson }}
        {%- endfor %}
        {{- '\\n</tools>' }}
    {%- endif %}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{%- for message in turns %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.content %}
        {{- message.content }}
    {%- endif %}
    {%- for call in message.tool_calls or [] %}
        {%- set f = call.function if call.function is defined else call %}
        {{- '<tool_call>{"name": ' + f.name | tojson + ', "arguments": ' }}
        {{- f.arguments if f.arguments is string else f.arguments | tojson }}
        {{- '}</tool_call>' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

_ANSWER = re.compile(r"(?<=<\|im_start\|>assistant\n).*?<\|im_end\|>", re.DOTALL)


@cache
def _compiled() -> jinja2.Template:
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    env.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return env.from_string(CHAT_TEMPLATE)


def render(messages: list[Message], tools: list[dict[str, Any]], add_generation_prompt: bool) -> str:
    """The text of a conversation, exactly as a server that uses the shipped template makes it."""
    return _compiled().render(messages=messages, tools=tools, add_generation_prompt=add_generation_prompt)


def wrap_tools(dialogue: Dialogue) -> list[dict[str, Any]]:
    """The dialogue's tools in the shape of OpenAI's API."""
    return [{"type": "function", "function": tool} for tool in dialogue.tools]


def pieces(dialogue: Dialogue) -> list[tuple[str, bool]]:
    """The rendered dialogue cut into (text, is taught): the assistant's words with their end mark are taught."""
    text = render(list(dialogue.messages), wrap_tools(dialogue), add_generation_prompt=False)
    out, at = [], 0
    for m in _ANSWER.finditer(text):
        out += [(text[at : m.start()], False), (m.group(), True)]
        at = m.end()
    return out


def question_and_answer(dialogue: Dialogue) -> tuple[str, str]:
    """The prompt before the last answer, and that answer with its end mark removed."""
    tools = wrap_tools(dialogue)
    prompt = render(list(dialogue.messages[:-1]), tools, add_generation_prompt=True)
    full = render(list(dialogue.messages), tools, add_generation_prompt=False)
    return prompt, full[len(prompt) :].removesuffix(IM_END + "\n")
