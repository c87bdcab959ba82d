"""The commands over real models: a terminal, pipes, and one line for everything that can go wrong."""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import octavo
from octavo.cli import main

DEMO = Path(octavo.__file__).parent / "demo" / "octavo-demo.gguf"
SMALL = ["--kv-memory", "64MiB"]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one line with which a command refuses."""
    capsys.readouterr()
    assert main([str(a) for a in arguments]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    lines = shown.err.strip().splitlines()
    assert len(lines) == 1, shown.err
    assert lines[0].startswith("octavo: ")
    return lines[0]


# ---------------------------------------------------------------- what can go wrong


def test_missing_and_damaged_files_are_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "/no/such" in refused(capsys, "serve", "/no/such", "--port", "0")
    assert "config.json" in refused(capsys, "plan", tmp_path) or "weights" in refused(capsys, "plan", tmp_path)
    data = DEMO.read_bytes()
    cut, junk, empty = tmp_path / "cut.gguf", tmp_path / "junk.gguf", tmp_path / "empty.gguf"
    cut.write_bytes(data[: len(data) // 2])
    junk.write_bytes(b"GGUF" + b"\xff" * 4000)
    empty.write_bytes(b"")
    for path in (cut, junk, empty):
        assert path.name in refused(capsys, "serve", path, "--port", "0")
    assert "cut off" in refused(capsys, "run", cut, "hello")


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_header_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path, seed: int) -> None:
    import random

    random_bytes = random.Random(seed)
    data = bytearray(DEMO.read_bytes())
    for _ in range(8):
        at = random_bytes.randrange(4, 4000)
        data[at : at + 4] = random_bytes.randbytes(4)
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(data)
    try:
        line = refused(capsys, "generate", damaged, "-p", "a", "-n", "1", *SMALL)
    except AssertionError:  # the damage may have hit what nobody reads, or a token's text
        assert main(["generate", str(damaged), "-p", "a", "-n", "1", *SMALL]) == 0
    else:
        assert "Traceback" not in line


def test_an_unknown_architecture_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, shared_data: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(shared_data / "models" / "stories260K" / "hf", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["FooForCausalLM"], "model_type": "foo"}))
    assert "FooForCausalLM" in refused(capsys, "serve", folder, "--port", "0")


def test_addresses_that_cannot_be_had_say_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        number = str(taken.getsockname()[1])
        line = refused(capsys, "serve", "--port", number)
        assert number in line
        assert "--port" in line
    assert "--host" in refused(capsys, "serve", "--host", "203.0.113.7", "--port", "0")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["serve", "--max-model-len", "1M"], "positions"),
        (["serve", "--kv-memory", "1k"], "KV pages"),
        (["serve", "--kv-memory", "900000GiB"], "free"),
        (["serve", "--block-size", "7"], "multiple of 16"),
        (["serve", "-tp", "4"], "tensor_parallel_size"),
        (["serve", "--chat-template", "/no/such"], "chat template"),
        (["serve", "--tokenizer", "/no/such"], "tokenizer"),
        (["run", "--temperature", "9", "octavo-demo", "hi"], "temperature"),
        (["generate", "--prompt-file", "/no/such"], "prompts"),
        (["generate", "-p", ""], "No prompt"),
        (["generate", "-p", "a", "--top-p", "0"], "top_p"),
    ],
)
def test_options_that_cannot_be_met_are_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert words in refused(capsys, *arguments, *(["--port", "0"] if arguments[0] == "serve" else []))


def test_a_bare_process_ends_with_one_line_and_status_one() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "octavo", "serve", "/no/such", "--port", "0"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1


# ---------------------------------------------------------------- commands that answer


def test_plan_as_text_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *SMALL, "--users-at", "1k"]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("weights", "KV pages", "scratch", "tokens that fit"))
    assert main(["plan", *SMALL, "--users-at", "1k", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["tokens_that_fit"] == plan["num_pages"] * plan["page_size"]
    assert plan["users_at"]["1024"] == plan["tokens_that_fit"] // 1024
    assert plan["kv_bytes"] <= 64 << 20


def test_generate_from_arguments_file_and_pipe(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(*arguments: str) -> list[str]:
        assert main(["generate", *SMALL, "--temperature", "0", "-n", "6", *arguments]) == 0
        return capsys.readouterr().out.splitlines()

    (line,) = ask("-p", "The capital")
    assert line.startswith("The capital")
    (tmp_path / "prompts").write_text("The capital\n\nThe capital\n")
    assert ask("--prompt-file", str(tmp_path / "prompts")) == [line, line]
    (record,) = ask("-p", "The capital", "--json")
    assert json.loads(record)["prompt"] + json.loads(record)["text"] == line
    monkeypatch.setattr("sys.stdin", io.StringIO("The capital\n"))
    assert ask() == [line]


def test_run_answers_one_prompt(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    question = "What is the capital of France?"
    for arguments in (["octavo-demo", question], [question]):
        assert main(["run", *SMALL, "--temperature", "0", *arguments]) == 0
        assert "Paris" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO(question + "\n"))
    assert main(["run", *SMALL, "--temperature", "0"]) == 0
    assert "Paris" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO(" \n"))
    assert "empty" in refused(capsys, "run", *SMALL)


# ---------------------------------------------------------------- a terminal


class Terminal:
    """`octavo run` on a pseudo-terminal."""

    def __init__(self, home: Path) -> None:
        import pty

        self.screen = ""
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.environ |= {"OCTAVO_HOME": str(home), "TERM": "dumb"}
            os.execv(
                sys.executable, [sys.executable, "-m", "octavo", "run", *SMALL, "--ignore-eos", "--sampling-seed", "1"]
            )

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def until(self, text: str) -> str:
        """Waits for `text` to be shown and returns what came before it."""
        while text not in self.screen:
            assert select.select([self._fd], [], [], 60)[0], f"waited in vain for {text!r} after {self.screen!r}"
            try:
                self.screen += os.read(self._fd, 65536).decode("utf-8", "replace")
            except OSError as e:
                raise AssertionError(f"ended without {text!r} after {self.screen!r}") from e
        before, _, self.screen = self.screen.partition(text)
        return before

    def interrupt_until(self, text: str) -> None:
        """Presses Ctrl-C until `text` is shown: readline loses one that comes between its prompt and its wait."""
        for _ in range(30):
            self.type("\x03")
            while text not in self.screen and select.select([self._fd], [], [], 2)[0]:
                self.screen += os.read(self._fd, 65536).decode("utf-8", "replace")
            if text in self.screen:
                break
        self.until(text)

    def ended(self) -> int:
        with contextlib.suppress(OSError):
            while os.read(self._fd, 65536):
                pass
        os.close(self._fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    if sys.platform not in ("linux", "darwin"):
        pytest.skip("NOT TESTED: no pseudo-terminals here")
    yield Terminal(tmp_path)


def test_a_chat_in_a_terminal(terminal: Terminal, tmp_path: Path) -> None:
    terminal.until(">>> ")
    terminal.type("Tell me a story\n")
    terminal.until("story")
    while not any(c.isalpha() for c in terminal.screen):  # its first words
        terminal.screen += os.read(terminal._fd, 100).decode("utf-8", "replace")
    terminal.type("\x03")
    terminal.until("[stopped]")
    terminal.until(">>> ")
    terminal.type("/set ignore_eos false\n")
    terminal.until(">>> ")
    terminal.type("/clear\n")
    terminal.until(">>> ")
    terminal.type("/set temperature 0\n")
    terminal.until(">>> ")
    terminal.type('"""two\n')
    terminal.until("... ")
    terminal.type('lines"""\n')
    terminal.until(">>> ")
    terminal.type("/clear\n")
    terminal.until(">>> ")
    terminal.type("What is the capital of France?\n")
    terminal.until("Paris")
    terminal.until(">>> ")
    terminal.type("/nonsense\n")
    terminal.until("No command /nonsense")
    terminal.until(">>> ")
    terminal.interrupt_until("Ctrl-D")
    terminal.until(">>> ")
    terminal.type("\x04")
    assert terminal.ended() == 0
    assert "Tell me a story" in (tmp_path / "history").read_text()
