"""The chat in the terminal, without a terminal: commands, controls, and a conversation that stays consistent."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, cast

import pytest

from octavo.base.errors import ConfigError, InvalidRequestError, OctavoError
from octavo.base.sampling import SamplingParams
from octavo.cli.run import Chat, command
from octavo.llm import LLM


class FakeLLM:
    """Says pieces, then maybe raises."""

    def __init__(self) -> None:
        self.pieces: Sequence[str] = ("Hel", "lo")
        self.error: BaseException | None = None
        self.closed = 0
        self.seen: list[Any] = []

    def get_default_sampling_fields(self) -> dict[str, Any]:
        return {"temperature": 0.5}

    def stream_chat(self, messages: Any, sampling: SamplingParams) -> Generator[str, None, None]:
        self.seen.append(([m["content"] for m in messages], sampling))
        try:
            yield from self.pieces
            if self.error is not None:
                raise self.error
        finally:
            self.closed += 1


@pytest.fixture
def llm() -> FakeLLM:
    return FakeLLM()


@pytest.fixture
def chat(llm: FakeLLM) -> Chat:
    return Chat(cast(LLM, llm), {}, None)


def test_a_conversation_grows(chat: Chat, llm: FakeLLM, capsys: pytest.CaptureFixture[str]) -> None:
    chat.ask("one")
    chat.ask("two")
    assert llm.seen[1][0] == ["one", "Hello", "two"]
    assert llm.seen[0][1].max_tokens is None
    assert capsys.readouterr().out == "Hello\nHello\n"


def test_an_interrupt_keeps_what_came(chat: Chat, llm: FakeLLM, capsys: pytest.CaptureFixture[str]) -> None:
    llm.error = KeyboardInterrupt()
    chat.ask("one")
    assert [m["content"] for m in chat.messages] == ["one", "Hello"]
    assert "[stopped]" in capsys.readouterr().out
    assert llm.closed == 1
    llm.pieces = ()
    chat.ask("two")
    assert [m["content"] for m in chat.messages] == ["one", "Hello"]


def test_an_error_forgets_the_question(chat: Chat, llm: FakeLLM) -> None:
    llm.error = OctavoError("broken")
    with pytest.raises(OctavoError):
        chat.ask("one")
    assert chat.messages == []
    assert llm.closed == 1


def test_a_model_cannot_command_the_terminal(chat: Chat, llm: FakeLLM, capsys: pytest.CaptureFixture[str]) -> None:
    llm.pieces = ("a\x1b]0;title\x07\x9b31m", "b\n\tc")
    chat.ask("one")
    assert capsys.readouterr().out == "a]0;title31mb\n\tc\n"


def test_controls_are_set_by_name_and_kept_if_valid(chat: Chat, capsys: pytest.CaptureFixture[str]) -> None:
    for line in ("/set temperature 0", "/set stop END", "/set ignore_eos true", "/set max_tokens 5"):
        assert command(chat, line) is False
    assert (chat.fields["temperature"], chat.fields["stop"], chat.fields["ignore_eos"]) == (0, "END", True)
    command(chat, "/set temperature none")
    command(chat, "/set max_tokens none")
    assert (chat.fields["temperature"], chat.fields["max_tokens"]) == (0.5, None)
    command(chat, "/set")
    assert "temperature" in capsys.readouterr().out
    before = dict(chat.fields)
    for line in ("/set temperature 9", "/set temperature x", "/set n 3", "/set foo 1", "/set top_p", "/set logprobs 1"):
        with pytest.raises((ConfigError, InvalidRequestError)):
            command(chat, line)
    assert chat.fields == before


def test_commands(chat: Chat, capsys: pytest.CaptureFixture[str]) -> None:
    chat.ask("one")
    command(chat, "/system Be brief.")
    assert [m["content"] for m in chat.messages] == ["Be brief."]
    command(chat, "/clear")
    assert [m["role"] for m in chat.messages] == ["system"]
    command(chat, "/system")
    assert chat.messages == []
    command(chat, "/help")
    assert "/bye" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="/nope"):
        command(chat, "/nope")
    assert command(chat, "/bye") is True
