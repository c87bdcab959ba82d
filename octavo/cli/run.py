"""`octavo run`: a chat in the terminal, streamed. Ctrl-C stops the answer, not the program; Ctrl-D leaves.

With a prompt argument (or a pipe) it answers once and ends.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from octavo.cli.options import add_engine_options, add_sampling_options, engine_args, sampling_fields

if TYPE_CHECKING:
    from octavo.llm import LLM

HELP = """/clear   forget the conversation
/system TEXT   set the system prompt (and forget the conversation)
/set NAME VALUE   change a sampling control, e.g. /set temperature 0
/help    this list
/bye     leave (so does Ctrl-D); Ctrl-C stops an answer
\"\"\"      begins and ends a message of several lines"""


def add_options(parser: argparse.ArgumentParser) -> None:
    add_engine_options(parser)
    parser.add_argument("prompt", nargs="?", metavar="PROMPT", help="answer this and end")
    parser.add_argument("--system", help="the system prompt")
    add_sampling_options(parser)


def run(options: argparse.Namespace) -> int:
    args = engine_args(options)
    from octavo.llm import LLM

    prompt = options.prompt
    if prompt is None and not sys.stdin.isatty():
        prompt = sys.stdin.read()
    with LLM(engine_args=args) as llm:
        fields = {"max_tokens": None, **llm.get_default_sampling_fields(), **sampling_fields(options)}
        chat = Chat(llm, fields, options.system)
        if prompt is not None:
            chat.ask(prompt.strip())
            return 0
        return converse(chat)


class Chat:
    """A conversation: what was said, and the controls of the next answer."""

    def __init__(self, llm: LLM, fields: dict[str, Any], system: str | None) -> None:
        self.llm = llm
        self.fields = fields
        self.system = system
        self.messages: list[dict[str, str]] = []
        self.clear()

    def clear(self) -> None:
        self.messages = [{"role": "system", "content": self.system}] if self.system else []

    def ask(self, text: str) -> None:
        """Streams the answer to standard output; an interrupt ends the answer and keeps what came."""
        from octavo.base.sampling import SamplingParams

        self.messages.append({"role": "user", "content": text})
        parts: list[str] = []
        try:
            sampling = SamplingParams(**self.fields)
            for piece in self.llm.stream_chat(self.messages, sampling):
                parts.append(piece)
                print(piece, end="", flush=True)
        except KeyboardInterrupt:
            print(" [stopped]", end="")
        except BaseException:
            self.messages.pop()
            raise
        print()
        self.messages.append({"role": "assistant", "content": "".join(parts)})


def converse(chat: Chat) -> int:
    """Reads messages until the end of input."""
    from octavo.base.errors import OctavoError

    _use_history()
    print(f"Octavo chats with {chat.llm.info.name}. /help lists the commands.")
    for text in _messages():
        try:
            if text.startswith("/"):
                if command(chat, text):
                    return 0
            else:
                chat.ask(text)
        except OctavoError as error:
            print(f"octavo: {error}", file=sys.stderr)
    print()
    return 0


def command(chat: Chat, text: str) -> bool:
    """Runs one /command; True leaves the chat."""
    from octavo.base.errors import ConfigError
    from octavo.base.sampling import SamplingParams

    name, _, rest = text.partition(" ")
    if name in ("/bye", "/exit", "/quit"):
        return True
    if name == "/clear":
        chat.clear()
    elif name == "/system":
        chat.system = rest.strip() or None
        chat.clear()
    elif name == "/set":
        field, _, value = rest.strip().partition(" ")
        try:
            number: float | int = float(value) if "." in value or "e" in value else int(value)
        except ValueError:
            raise ConfigError("Write /set NAME NUMBER, e.g. /set temperature 0.5.") from None
        if field not in SamplingParams.__dataclass_fields__:
            raise ConfigError(f"No sampling control {field!r}.")
        SamplingParams(**{**chat.fields, field: number})  # refuses a value out of its range before it is kept
        chat.fields[field] = number
    elif name in ("/help", "/?"):
        print(HELP)
    else:
        raise ConfigError(f"No command {name}. /help lists them.")
    return False


def _messages() -> Iterator[str]:
    while True:
        try:
            text = input(">>> ")
            if text.startswith('"""'):
                lines = [text[3:]]
                while not lines[-1].endswith('"""'):
                    lines.append(input("... "))
                text = "\n".join(lines).removesuffix('"""')
        except EOFError:
            return
        except KeyboardInterrupt:
            print("\n(Ctrl-D or /bye leaves)")
            continue
        if text.strip():
            yield text.strip()


def _use_history() -> None:
    """Line editing with a history that outlives the session, where the platform has readline."""
    try:
        import atexit
        import readline
    except ImportError:
        return
    folder = Path(os.environ.get("OCTAVO_HOME", "~/.octavo")).expanduser()
    file = folder / "history"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if file.exists():
            readline.read_history_file(file)
    except OSError:
        return
    readline.set_history_length(1000)
    atexit.register(_save_history, file)


def _save_history(file: Path) -> None:
    import contextlib
    import readline

    with contextlib.suppress(OSError):
        readline.write_history_file(file)
