"""What the handlers of one server share: engine, settings, metrics, names. Lives in the app's state; no globals."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from octavo.base.types import AsyncEngine, Delta
from octavo.server.metrics import Metrics
from octavo.server.settings import ServerSettings
from octavo.text.answer import AnswerFormats, AnswerReader

_TAIL = 16  # tokens of a prompt that tell whether it ends inside a thought


@dataclass
class ServerContext:
    engine: AsyncEngine
    settings: ServerSettings
    metrics: Metrics
    started_at: int = field(default_factory=lambda: int(time.time()))
    _formats: dict[bool, AnswerFormats] = field(default_factory=dict)

    @staticmethod
    def of(request: Request) -> ServerContext:
        context: ServerContext = request.app.state.context
        return context

    @property
    def names(self) -> tuple[str, ...]:
        return self.settings.served_names or (self.engine.info.name,)

    def served_name(self, asked: str | None) -> str:
        """The name an answer carries: a one-model server answers to any name and says the one it was asked by."""
        return asked or self.names[0]

    def formats(self, *, tools: bool) -> AnswerFormats:
        """How the model marks reasoning and calls, as its template for conversations with (or without) tools shows."""
        if tools not in self._formats:
            self._formats[tools] = AnswerFormats.of_template(
                self.engine.chat_template_source(tools=tools),
                reasoning=self.settings.reasoning_parser,
                calls=self.settings.tool_call_parser,
            )
        return self._formats[tools]

    def reader(
        self, prompt: Sequence[int], tools: Sequence[Mapping[str, Any]] | None, *, begun: str = ""
    ) -> AnswerReader:
        """What tells reasoning and calls from the words of one answer to a prompt, which may have `begun` it."""
        formats = self.formats(tools=bool(tools))
        tail = self.engine.decode(prompt[-_TAIL:]) if formats.reasoning else ""
        return formats.reader(tail, tools, begun=begun)

    def observed(self, stream: AsyncIterator[Delta], n: int) -> AsyncIterator[Delta]:
        """The Deltas of one request's `n` completions, counted and timed as they pass."""
        return self.metrics.observed(stream, n)
