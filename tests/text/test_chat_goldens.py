"""34 real templates against renderings and refusals by transformers, and renderings published by others."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from octavo.base.errors import ChatTemplateError
from octavo.text.chat import ChatTemplate


def _conversation(context: dict[str, Any], arguments: str | None) -> list[dict[str, Any]]:
    """The context's messages, with tool arguments as the golden has them: a JSON string or an object."""
    messages: list[dict[str, Any]] = context.pop("messages")
    for call in (call for message in messages for call in message.get("tool_calls", ())):
        function = call["function"]
        if arguments == "object" and isinstance(function["arguments"], str):
            function["arguments"] = json.loads(function["arguments"])
        elif arguments == "string" and not isinstance(function["arguments"], str):
            function["arguments"] = json.dumps(function["arguments"])
    return messages


def _outcome(template: ChatTemplate, messages: list[dict[str, Any]], context: dict[str, Any]) -> tuple[str, str]:
    options = {name: context.pop(name) for name in ("tools", "documents") if name in context}
    try:
        prompt = template.render(
            messages,
            add_generation_prompt=context.pop("add_generation_prompt", False),
            variables=context,
            **options,
        )
    except ChatTemplateError as error:
        return "error", f"{type(error.__cause__).__name__}: {error.__cause__}"
    return "rendered", prompt


def test_the_goldens(shared_data: Path) -> None:
    folder = shared_data / "chat_templates"
    goldens = [json.loads(line) for line in (folder / "goldens.jsonl").read_text("utf-8").splitlines()]
    assert len(goldens) == 136 and len({golden["template"] for golden in goldens}) == 34
    wrong = []
    for golden in goldens:
        context = json.loads((folder / "contexts" / golden["context"]).read_text("utf-8"))
        now = datetime.fromisoformat(golden["now"])
        source = (folder / "templates" / golden["template"]).read_text("utf-8")
        messages = _conversation(context, golden["arguments"])
        kind, text = _outcome(ChatTemplate(source, clock=lambda now=now: now), messages, context)
        if golden.get(kind) != text:
            wrong.append((golden["template"], golden["context"], golden["arguments"], kind, text))
    assert not wrong


def test_published_renderings(shared_data: Path) -> None:
    lines = (shared_data / "chat_templates" / "published_renderings.jsonl").read_text("utf-8").splitlines()
    cases = [json.loads(line) for line in lines]
    assert len(cases) == 26
    for case in cases:
        context = dict(case["data"])
        # Where the data do not say, their template engine leaves the variable undefined; Jamba takes that for true.
        context.setdefault("add_generation_prompt", "Jamba-Large-1.6" in case["id"])
        outcome = _outcome(ChatTemplate(case["chat_template"]), context.pop("messages"), context)
        assert outcome == ("rendered", case["target"]), case["id"]
