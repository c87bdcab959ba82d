"""`octavo serve`: bind the port, start the engine's process, then answer over HTTP until told to stop."""

from __future__ import annotations

import argparse
import contextlib
import errno
import gc
import logging
import socket
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from octavo.base.errors import ConfigError
from octavo.cli.options import add_engine_options, engine_args
from octavo.engine.spawn import spawn
from octavo.engine_main import COMMAND
from octavo.server.settings import ServerSettings

if TYPE_CHECKING:
    from octavo.llm import EngineHandle

log = logging.getLogger("octavo")


def add_options(parser: argparse.ArgumentParser) -> None:
    add_engine_options(parser)
    option = parser.add_argument_group("server").add_argument
    option("--host", default="127.0.0.1", help="address to listen on (default: %(default)s; 0.0.0.0 for all)")
    option("--port", type=port, default=8000, help="port to listen on (default: %(default)s; 0 picks a free one)")
    option("--served-model-name", "--alias", action="append", metavar="NAME", help="name to go by (repeatable)")
    option("--api-key", action="append", metavar="KEY", help="ask clients for this key (repeatable)")
    option("--cors-origins", "--allowed-origins", type=origins, default=("*",), metavar="ORIGINS",
           help="web pages whose scripts may ask, e.g. https://a.example,https://b.example (default: *, all; "
           "none: only the chat page)")  # fmt: skip
    option(
        "--tool-call-parser",
        type=_parser("tool_call_parser"),
        default="auto",
        metavar="NAME",
        help="format of the model's tool calls (default: auto, what its chat template shows; none: not parsed)",
    )
    option(
        "--reasoning-parser",
        type=_parser("reasoning_parser"),
        default="auto",
        metavar="NAME",
        help="tags of the model's reasoning (default: auto, what its chat template shows; none: not parsed)",
    )
    option("--enable-auto-tool-choice", action="store_true", help=argparse.SUPPRESS)  # vLLM's: always on here
    option("--drain-timeout", type=seconds, default=30.0, metavar="SECONDS",
           help="how long running answers may take after SIGTERM (default: %(default)s)")  # fmt: skip
    option("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    option("--access-log", action=argparse.BooleanOptionalAction, default=True, help="a line per request")
    option("--disable-uvicorn-access-log", dest="access_log", action="store_false", help=argparse.SUPPRESS)


def port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port: ports go from 0 to 65535")
    return number


def _parser(which: str) -> Callable[[str], str]:
    """Checks the name of a parser, and loads them only if one is named."""

    def check(name: str) -> str:
        from octavo.text import answer

        try:
            checked: str = getattr(answer, which)(name)
        except ConfigError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
        return checked

    return check


def seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number < 1e6:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds from 0 up")
    return number


def origins(text: str) -> tuple[str, ...]:
    """Origins separated by commas, or as a JSON list; `none` is the empty list."""
    names = tuple(name.strip().strip("\"'") for name in text.strip().removeprefix("[").removesuffix("]").split(","))
    names = tuple(name for name in names if name and name != "none")
    for name in names:
        if name != "*" and ("://" not in name or name.endswith("/")):
            raise argparse.ArgumentTypeError(f"{name!r} is no origin such as https://example.org (and no path)")
    return names


def run(options: argparse.Namespace) -> int:
    begin = time.monotonic()
    gc.disable()  # what is imported and read now is made to stay: `_answer` lets it be, and collects from then on
    _log(options.log_level)
    names = tuple(options.served_model_name or ())
    args = engine_args(options, served_model_name=names[0] if names else None)
    with contextlib.closing(bind(options.host, options.port)) as listener:
        spawned = spawn(COMMAND)  # it imports while this process does, and loads while this one reads the vocabulary
        from octavo.llm import EngineHandle

        engine = EngineHandle.start(args, spawned)
        try:
            _answer(engine, listener, options, names, begin)
        finally:
            engine.stop()
            gc.enable()
    return 0


def _answer(
    engine: EngineHandle, listener: socket.socket, options: argparse.Namespace, names: tuple[str, ...], begin: float
) -> None:
    """Serves until told to stop."""
    from octavo.server.app import create_app
    from octavo.server.launch import serve

    engine.wait_ready()
    gc.freeze()
    gc.enable()
    number = listener.getsockname()[1]
    settings = ServerSettings(
        host=options.host,
        port=number,
        api_keys=tuple(options.api_key or ()),
        served_names=names,
        cors_origins=options.cors_origins,
        drain_timeout_s=options.drain_timeout,
        access_log=options.access_log,
        reasoning_parser=options.reasoning_parser,
        tool_call_parser=options.tool_call_parser,
    )
    app = create_app(engine, settings)
    _announce(engine, options.host, number, time.monotonic() - begin)
    serve(app, listener, settings, engine.close)


def _log(level: str) -> None:
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    if level != "debug":  # its news of starting and ending are ours to tell
        logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, logging.getLogger().level))


def bind(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        ConfigError: the address cannot be had; says why and what to do.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(2048)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        advice = "Choose an address of this machine with --host."
        if error.errno == errno.EADDRINUSE:
            advice = "Stop what uses it, or choose another port with --port."
        elif error.errno == errno.EACCES:
            advice = "Ports under 1024 need privileges: choose another with --port."
        raise ConfigError(f"Cannot listen on {host}:{port}: {error.strerror or error}. {advice}") from error
    return listener


def _announce(engine: EngineHandle, host: str, port: int, seconds: float) -> None:
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    url = f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
    for line in engine.notes:
        log.info("%s", line)
    print(
        f"Octavo serves {engine.info.name} ({engine.info.weight_format}, {engine.info.num_parameters / 1e6:.0f} M "
        f"parameters) after {seconds:.1f} s\n  chat page  {url}/\n  OpenAI API {url}/v1",
        flush=True,
    )
