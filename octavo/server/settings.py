"""ServerSettings: what the HTTP side may be told. Engine options are EngineArgs, elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

MAX_BODY_BYTES = 32 << 20


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Options of the HTTP server. `api_keys` empty accepts any key; `served_names` are what /v1/models lists;
    `cors_origins` are the web pages whose scripts may ask ("*": all of them; empty: only the chat page). The parsers
    are names of formats in `octavo.text.answer`, "auto" (what the chat template shows) or "none"."""

    host: str = "127.0.0.1"
    port: int = 8000
    api_keys: tuple[str, ...] = ()
    served_names: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ("*",)
    max_body_bytes: int = MAX_BODY_BYTES
    drain_timeout_s: float = 30.0
    access_log: bool = True
    reasoning_parser: str = "auto"
    tool_call_parser: str = "auto"
