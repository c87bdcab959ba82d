"""One served sample: a server is started, asked for its first token, put under load, weighed and ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import IO

from benchmarks.compare import client, places
from benchmarks.compare.accounting import private_bytes, tree
from benchmarks.compare.offline import environment_of
from benchmarks.compare.plan import Contender
from benchmarks.compare.processes import end
from tools.make_model.shapes import SHAPES

START_S = 300
USERS = 32
KV_MEMORY = 512 << 20  # of Octavo's pages under load: room for all users, and the load fills it
KV_MEMORY_ALONE = 128 << 20  # where a few requests are all the load
REQUESTS = {"http-8": (64, 8), "http-32": (64, 32), "prefix-32": (32, 32)}


def run(
    contender: Contender, works: tuple[str, ...], threads: int, seed: int
) -> tuple[dict[str, list[dict[str, float]]], list[str]]:
    """Values by workload, and the server's command. The same seed gives every server the same requests."""
    vocab = SHAPES[contender.shape].vocab
    port = _free_port()
    command = command_of(contender, works, port, threads)
    values: dict[str, list[dict[str, float]]] = {}
    if works == ("start",):  # once before, so that all files lie in the page cache
        with _server(command, contender.engine, threads) as (process, _):
            asyncio.run(_first_token(process, port, command, vocab))
    with _server(command, contender.engine, threads) as (process, begin):
        asyncio.run(_first_token(process, port, command, vocab))
        values["start"] = [{"seconds": time.perf_counter() - begin}]
        served = _served_name(contender)
        for number, work in enumerate(works):
            if work in REQUESTS:
                requests, users = REQUESTS[work]
                make = client.prefix_load if work.startswith("prefix") else client.random_load
                client.run(port, served, client.random_load(vocab, 4, 10_000 + seed), 4)  # a warm-up
                values[work] = [client.run(port, served, make(vocab, requests, 100 * seed + number), users)]
            elif work == "memory":
                if not _loaded(works):
                    client.run(port, served, client.random_load(vocab, 12, seed), 6)
                values[work] = [{"private_bytes": float(private_bytes(tree(process.pid)))}]
    if "memory" in works and contender.engine == "octavo":
        values["memory"][0] |= _planned(contender, works, threads)
    return values, [" ".join(command)]


def command_of(contender: Contender, works: tuple[str, ...], port: int, threads: int) -> list[str]:
    """The server as its own documentation recommends it for many users on these processors."""
    model = str(places.model_path(contender.shape, contender.format))
    python = str(places.python_of(contender.engine if contender.engine != "llama.cpp" else "octavo"))
    if contender.engine == "octavo":
        return [python, "-m", "octavo", "serve", model, "--port", str(port), "--no-access-log", *_sizes(threads, works)]
    if contender.engine == "llama.cpp":
        command = [str(places.llama_tool("llama-server")), "-m", model, "--port", str(port), "-t", str(threads),
                   "-tb", str(threads), "-b", "2048", "-ub", "512", "-cb"]  # fmt: skip
        command += ["-np", "1", "-c", "2048"] if works == ("start",) else ["-np", str(USERS), "-c", str(1280 * USERS)]
        flags = {"fa": "1", "kvu": "0", **dict(contender.settings)}
        command += ["-fa", {"1": "on", "0": "off"}[flags["fa"]]]
        return [*command, "--kv-unified" if flags["kvu"] == "1" else "--no-kv-unified"]
    if contender.engine == "vllm-cpu":
        return [python, "-m", "vllm.entrypoints.openai.api_server", "--model", model, "--dtype", "bfloat16",
                "--max-model-len", "2048", "--max-num-seqs", str(USERS), "--port", str(port),
                "--disable-uvicorn-access-log"]  # fmt: skip
    raise ValueError(f"{contender.engine} has no server here")


def _loaded(works: tuple[str, ...]) -> bool:
    return any(work in REQUESTS for work in works)


def _sizes(threads: int, works: tuple[str, ...]) -> list[str]:
    memory = KV_MEMORY_ALONE if works == ("memory",) else KV_MEMORY
    return ["--threads", str(threads), "--max-num-seqs", str(USERS), "--max-model-len", "2048", "--kv-memory",
            str(memory)]  # fmt: skip


def _planned(contender: Contender, works: tuple[str, ...], threads: int) -> dict[str, float]:
    """What `octavo plan` says of the server that was weighed."""
    model = str(places.model_path(contender.shape, contender.format))
    command = [sys.executable, "-m", "octavo", "plan", model, *_sizes(threads, works), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=places.ROOT)
    plan = json.loads(done.stdout)
    return {f"planned_{name}": float(plan[name]) for name in ("weights_bytes", "kv_bytes", "total_bytes")}


def _served_name(contender: Contender) -> str:
    return str(places.model_path(contender.shape, contender.format))


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def _server(command: list[str], engine: str, threads: int) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """The server in a session of its own, and when its start began; all of it has ended afterwards."""
    with tempfile.TemporaryFile() as log:
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                                   env=environment_of(engine, threads), cwd=places.ROOT)  # fmt: skip
        try:
            yield process, begin
        except Exception as error:
            raise RuntimeError(f"{error}; the server's last words: {_end_of(log)}") from error
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT if process.poll() is None else 0)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(20)
    end(process)


def _end_of(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read()[-2000:].decode(errors="replace")


async def _first_token(process: subprocess.Popen[bytes], port: int, command: list[str], vocab: int) -> None:
    """Returns when a one-token completion has been answered; asks every 5 ms until the server listens and is ready."""
    ask = client.Ask(client.plain_tokens(vocab)[:8], 1)
    model = command[command.index("--model") + 1] if "--model" in command else "model"
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with code {process.returncode}")
        try:
            await client.complete(port, model, ask)
            return
        except (ConnectionError, asyncio.IncompleteReadError):
            await asyncio.sleep(0.005)
        except RuntimeError as error:
            if " 503 " not in str(error):  # llama-server's word for "still loading"
                raise
            await asyncio.sleep(0.005)
    raise RuntimeError(f"no token within {START_S} s")
