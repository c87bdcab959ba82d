"""`octavo bench startup`: a real server is started, asked and ended."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest

from octavo.base.errors import ConfigError
from octavo.bench.startup import first_token
from octavo.cli import main

pytest.importorskip("octavo._kernels", reason="CPU BACKEND ABSENT: the extension octavo._kernels is not built")


def test_a_start_has_its_parts_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = tmp_path / "startup.json"
    limits = "--max-model-len 128 --max-num-seqs 2 --kv-memory 4MiB"
    arguments = ["--num-iters", "1", "--threads", "1", "--serve-options", limits, "--json", str(to)]
    assert main(["bench", "startup", *arguments]) == 0
    result = json.loads(to.read_text())
    assert 0 < result["import_s"] < result["ready_s"] < result["first_token_s"]
    assert result["model"] == "octavo-demo" and len(result["starts"]) == 1
    assert "first token" in capsys.readouterr().out


def test_a_server_that_ends_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "startup", str(tmp_path / "no-such.gguf"), "--num-iters", "1"]) == 1
    error = capsys.readouterr().err
    assert "The server ended with code 1" in error and "no-such.gguf" in error


def test_words_that_do_not_end_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "startup", "--serve-options", "'"]) == 1
    assert '--serve-options "\'" cannot be split into words' in capsys.readouterr().err
    assert main(["bench", "startup", "--num-iters", "0"]) == 1
    assert "num-iters must be at least 1" in capsys.readouterr().err


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (HEAD + b'data: {"error": {"message": "out of luck"}}\n\n', "answered with an error: .*out of luck"),
        (HEAD + b"data: [DONE]\n\n", "answered 200 without a token"),
        (HEAD + b"data: {broken\n\n", "broke off"),
        (b"what?\r\n\r\n", "broke off: BadStatusLine"),
        (b"", "broke off"),
    ],
)
def test_what_is_no_token_is_said_in_words(said: bytes, message: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(said)

        server = threading.Thread(target=answer)
        server.start()
        with pytest.raises(ConfigError, match=message):
            first_token(listener.getsockname()[1], 10.0)
        server.join()
