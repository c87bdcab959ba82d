"""Recorded outputs of real models: calls and reasoning that must be parsed from them, however they are cut.

Which cases are left out, and why, is in exclusions.json beside this file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from octavo.text.calls import FORMATS, CallArguments, CallBegin, CallParser, Said
from octavo.text.reasoning import MISTRAL, THINK, ReasoningSplitter

EXCLUSIONS = json.loads(Path(__file__).with_name("exclusions.json").read_text())
TOOL_FORMATS = {
    "deepseek_v3": "deepseek_v3", "deepseekv31": "deepseek_v31", "glm4_moe": "glm4", "granite": "granite",
    "granite-20b-fc": "granite_20b", "hermes": "hermes", "hunyuan_a13b": "jamba", "internlm": "internlm2",
    "jamba": "jamba", "kimi_k2": "kimi_k2", "llama3_json": "llama3_json", "llama4_pythonic": "pythonic",
    "mistral": "mistral", "olmo3": "olmo3", "phi4_mini_json": "phi4_mini", "pythonic": "pythonic",
    "qwen3coder": "qwen3_coder", "qwen3_xml": "qwen3_coder",
}  # fmt: skip
STARTS_OUTSIDE = {"mistral", "glm4_moe"}  # their prompts do not end inside a thought


def test_recorded_outputs(shared_data: Path) -> None:
    wrong, passed, used = [], 0, set()
    for line in (shared_data / "tool_calls/vllm_parser_cases.jsonl").read_text().splitlines():
        case = json.loads(line)
        format, key = f"{case['kind']}/{case['parser']}", f"{case['parser']}/{case['case']}"
        if format in EXCLUSIONS["formats"]:
            used.add(format)
            continue
        faults = list(faults_of_calls(case) if case["kind"] == "tool" else faults_of_reasoning(case))
        if key in EXCLUSIONS["cases"]:
            used.add(key)
            faults = [] if faults else ["excluded, but right"]
        else:
            passed += 1
        wrong += [f"{key}: {fault}" for fault in faults]
    assert not wrong, "\n".join(wrong)
    assert used == {*EXCLUSIONS["formats"], *EXCLUSIONS["cases"]}
    assert passed >= 185


def parsed(format: str, text: str, size: int) -> tuple[str, list[tuple[str, str]]]:
    parser = CallParser(FORMATS[format])
    events = [event for at in range(0, len(text), size) for event in parser.feed(text[at : at + size])]
    events += parser.finish()
    calls: dict[int, list[str]] = {}
    for event in events:
        if isinstance(event, CallBegin):
            calls[event.index] = [event.name, ""]
        elif isinstance(event, CallArguments):
            calls[event.index][1] += event.text
    content = "".join(event.text for event in events if isinstance(event, Said))
    return content, [(name, arguments) for name, arguments in calls.values()]


def faults_of_calls(case: dict[str, Any]) -> Iterator[str]:
    text, expected = case["model_output"], case["expected"]
    ways = [parsed(TOOL_FORMATS[case["parser"]], text, size) for size in (1, 3, 7, len(text) or 1)]
    if any(way != ways[0] for way in ways):
        yield f"depends on how it is cut: {ways}"
    content, calls = ways[0]
    values = [(name, json.loads(arguments)) for name, arguments in calls]
    for key, seen in (
        ("tools_called", bool(calls)),
        ("count", len(calls)),
        ("expected_names", [name for name, _ in calls]),
        ("expected_args_list", [value for _, value in values]),
    ):
        if key in expected and expected[key] != seen:
            yield f"{key}: {seen} instead of {expected[key]}"
    if "expected_tool_calls" in expected:
        wanted = [call.get("function", call) for call in expected["expected_tool_calls"]]
        if values != [(call["name"], json.loads(call["arguments"])) for call in wanted]:
            yield f"calls: {values}"
    for key in ("content", "expected_content"):
        wanted_content = text if expected.get(key) == "=model_output" else (expected.get(key) or "")
        if key in expected and wanted_content != content:
            yield f"content: {content!r} instead of {wanted_content!r}"
    yield from faults_of_lists(expected, calls)


def faults_of_lists(expected: dict[str, Any], calls: list[tuple[str, str]]) -> Iterator[str]:
    names = [name for name, _ in calls]
    wanted = expected.get("names")
    if isinstance(wanted, dict) and any(names[int(i)] != name for i, name in wanted.items()):
        yield f"names: {names}"
    if isinstance(wanted, list) and names != wanted:
        yield f"names: {names}"
    if any(calls[int(i)][1] != text for i, text in expected.get("arguments_text", {}).items()):
        yield f"arguments: {calls}"
    if len(calls) < expected.get("count_at_least", 0):
        yield f"calls: {calls}"


def faults_of_reasoning(case: dict[str, Any]) -> Iterator[str]:
    text, expected = case["model_output"], case["expected"]
    switches = expected.get("chat_template_kwargs") or {}
    thinks = case["parser"] not in STARTS_OUTSIDE and switches.get("thinking", True) is not False
    if case["parser"] == "hy_v3":
        thinks = expected.get("reasoning_effort") == "high"
    for size in (1, 3, 7, len(text) or 1):
        splitter = ReasoningSplitter(MISTRAL if case["parser"] == "mistral" else THINK, inside=thinks)
        pieces = [piece for at in range(0, len(text), size) for piece in splitter.feed(text[at : at + size])]
        pieces += splitter.finish()
        seen = tuple("".join(t for kind, t in pieces if kind == which) for which in ("reasoning", "content"))
        if seen != (expected["reasoning"] or "", expected["content"] or ""):
            yield f"{seen} instead of {expected['reasoning']!r}, {expected['content']!r}"
