"""`octavo run`: a chat in the terminal, streamed. Ctrl-C stops the answer, not the program; Ctrl-D leaves.

With a prompt argument (or a pipe) it answers once and ends.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from octavo.base.errors import ConfigError, OctavoError, PromptTooLongError
from octavo.cli.options import add_engine_options, add_sampling_options, engine_args, sampling_fields

if TYPE_CHECKING:
    from octavo.llm import LLM

HELP = """/clear   forget the conversation
/system TEXT   set the system prompt (and forget the conversation)
/set NAME VALUE   change a sampling control, e.g. /set temperature 0; /set alone shows them
/help    this list
/bye     leave (so does Ctrl-D); Ctrl-C stops an answer
\"\"\"      begins and ends a message of several lines"""

CONTROLS = ("max_tokens", "min_tokens", "temperature", "top_p", "top_k", "min_p", "presence_penalty",
            "frequency_penalty", "repetition_penalty", "seed", "stop", "ignore_eos", "skip_special_tokens")  # fmt: skip
# a model's words are shown, never obeyed: without these characters no escape sequence reaches the terminal
_UNSEEN = {code: None for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def add_options(parser: argparse.ArgumentParser) -> None:
    add_engine_options(parser)
    parser.add_argument("prompt", nargs="?", metavar="PROMPT", help="answer this and end")
    parser.add_argument("--system", help="the system prompt")
    add_sampling_options(parser)


def run(options: argparse.Namespace) -> int:
    if options.prompt is None and options.model and " " in options.model and not Path(options.model).exists():
        options.prompt, options.model = options.model, None  # one argument that is no name of a model: the prompt
    args = engine_args(options)
    prompt = options.prompt
    if prompt is None and not sys.stdin.isatty():
        prompt = sys.stdin.read()
    if prompt is not None and not prompt.strip():
        raise ConfigError("The prompt is empty. Give one as an argument or through the pipe.")
    from octavo.llm import LLM

    with LLM(engine_args=args) as llm:
        chat = Chat(llm, sampling_fields(options), options.system)
        if prompt is not None:
            chat.ask(prompt.strip())
            return 0
        return converse(chat)


class Chat:
    """A conversation: what was said, and the controls of the next answer."""

    def __init__(self, llm: LLM, fields: dict[str, Any], system: str | None) -> None:
        self.llm = llm
        self.defaults: dict[str, Any] = {"max_tokens": None, **llm.get_default_sampling_fields()}
        self.fields = {**self.defaults, **fields}
        self.system = system
        self.messages: list[dict[str, str]] = []
        self.clear()

    def clear(self) -> None:
        self.messages = [{"role": "system", "content": self.system}] if self.system else []

    def ask(self, text: str) -> None:
        """Streams the answer to standard output; an interrupt ends the answer and keeps what came.

        A question that got no answer at all is forgotten, so that turns keep alternating.
        """
        from octavo.base.sampling import SamplingParams

        messages = [*self.messages, {"role": "user", "content": text}]
        parts: list[str] = []
        try:
            stream = self.llm.stream_chat(messages, SamplingParams(**self.fields))
            with contextlib.closing(stream) as pieces:
                for piece in pieces:
                    parts.append(piece)
                    print(piece.translate(_UNSEEN), end="", flush=True)
        except KeyboardInterrupt:
            print(" [stopped]", end="")
        print()
        if parts:
            self.messages = [*messages, {"role": "assistant", "content": "".join(parts)}]


def converse(chat: Chat) -> int:
    """Reads messages until the end of input."""
    _use_history()
    print(f"Octavo chats with {chat.llm.info.name}. /help lists the commands.")
    for text in _messages():
        try:
            if text.startswith("/"):
                if command(chat, text):
                    return 0
            else:
                chat.ask(text)
        except PromptTooLongError as error:
            print(f"octavo: {error} /clear forgets the conversation.", file=sys.stderr)
        except OctavoError as error:
            print(f"octavo: {error}", file=sys.stderr)
    print()
    return 0


def command(chat: Chat, text: str) -> bool:
    """Runs one /command; True leaves the chat."""
    name, _, rest = text.partition(" ")
    if name in ("/bye", "/exit", "/quit"):
        return True
    if name == "/clear":
        chat.clear()
    elif name == "/system":
        chat.system = rest.strip() or None
        chat.clear()
    elif name == "/set":
        _set(chat, *rest.strip().partition(" ")[::2])
    elif name in ("/help", "/?"):
        print(HELP)
    else:
        raise ConfigError(f"No command {name}. /help lists them.")
    return False


def _set(chat: Chat, name: str, text: str) -> None:
    from octavo.base.sampling import SamplingParams

    if not name:
        defaults = SamplingParams()
        for control in CONTROLS:
            print(f"{control:20} {chat.fields.get(control, getattr(defaults, control))}")
        return
    if name not in CONTROLS:
        raise ConfigError(f"No sampling control {name!r}. They are: {', '.join(CONTROLS)}.")
    if not text.strip():
        raise ConfigError(f"Write /set {name} VALUE, or /set {name} none to go back to the default.")
    fields = {key: value for key, value in chat.fields.items() if key != name}
    if text.strip().lower() == "none":
        fields |= {key: value for key, value in chat.defaults.items() if key == name}
    else:
        try:
            fields[name] = json.loads(text)
        except ValueError:
            fields[name] = text.strip()
    SamplingParams(**fields)  # refuses a value out of its range before it is kept
    chat.fields = fields


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
    import readline

    with contextlib.suppress(OSError):
        readline.write_history_file(file)
