"""Tool calls: the right tool of several with the right arguments, and a sentence made from a tool's result."""

from __future__ import annotations

import json
from typing import Any

from tools.train_demo import words
from tools.train_demo.dialogue import Draw, Made, Message, assistant, system, user
from tools.train_demo.tasks import facts
from tools.train_demo.tasks.tool_table import TOOLS, Tool

_PREFIXES = ("get", "set", "find", "do", "run", "my", "new", "home", "call", "start")


def tool_name(draw: Draw, tool: Tool) -> str:
    """One of the tool's names, or one put together from a random word, so that names must be copied."""
    if draw.chance(0.25):
        return f"{draw.pick(_PREFIXES)}_{draw.pick(words.OBJECTS)}_{tool.names[1].split('_')[0]}"
    return str(draw.pick(tool.names))


def define(draw: Draw, tool: Tool) -> tuple[dict[str, Any], dict[str, str]]:
    """A schema with drawn names, and the name of every role. The names together are the schema's combination."""
    name = tool_name(draw, tool)
    roles = {a.role: draw.pick(a.names) for a in tool.arguments}
    draw.combo("tool schema", name, *roles.values(), share=0.12)
    properties = {roles[a.role]: {"type": a.kind} for a in tool.arguments}
    schema: dict[str, Any] = {
        "name": name,
        "description": tool.description,
        "parameters": {"type": "object", "properties": properties, "required": list(properties)},
    }
    return schema, roles


def offer(draw: Draw, tool: Tool) -> tuple[list[dict[str, Any]], dict[str, str], str]:
    """The tool among up to two others, in any order; returns the schemas, the roles' names and the tool's name."""
    schema, roles = define(draw, tool)
    others = draw.rng.sample([t for t in TOOLS if t is not tool], draw.pick((0, 1, 1, 1, 2)))
    held = list(draw.held)
    schemas = [schema, *(define(draw, t)[0] for t in others)]
    draw.held[:] = held  # a new schema beside the one that is called does not make a test
    draw.rng.shuffle(schemas)
    return schemas, roles, schema["name"]


def asked(draw: Draw) -> tuple[list[dict[str, Any]], list[Message], Tool, dict[str, object]]:
    """Tools, the question with the call that answers it, the tool and the values by role."""
    tool = draw.pick(TOOLS)
    schemas, roles, name = offer(draw, tool)
    values = {a.role: a.value(draw) for a in tool.arguments}
    draw.combo("tool values", tool.names[0], *values.values())
    question = draw.phrase(tool.ask, **values)
    arguments = {roles[role]: value for role, value in values.items()}
    call = {"type": "function", "function": {"name": name, "arguments": arguments}}
    messages: list[Message] = [user(draw.noise(question)), {"role": "assistant", "content": "", "tool_calls": [call]}]
    if draw.chance(0.3):
        messages.insert(0, system("You are a helpful assistant."))
    return schemas, messages, tool, values


def call(draw: Draw) -> Made:
    """Question to call."""
    schemas, messages, _, _ = asked(draw)
    return Made(messages, schemas)


def result(draw: Draw) -> Made:
    """Question, call and result to a sentence."""
    schemas, messages, tool, values = asked(draw)
    returned = tool.result(draw)
    messages.append({"role": "tool", "content": json.dumps(returned)})
    messages.append(assistant(tool.reply.format(**values, **returned)))
    return Made(messages, schemas)


def no_call(draw: Draw) -> Made:
    """Tools are offered, but the question needs none."""
    schemas, _, _ = offer(draw, draw.pick(TOOLS))
    made = draw.pick((facts.capital, facts.things, facts.chemistry))(draw)
    return Made(made.messages, schemas)


TASKS = ((call, 4.0), (result, 2.0), (no_call, 0.7))
