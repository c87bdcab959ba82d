"""How measurements leave the program: as JSON in a file that is whole or not there, and as tables of text."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from octavo.base.errors import ConfigError


def write_json(result: Any, to: str) -> None:
    """Writes a dataclass or a dictionary to a file, or to standard output where `to` is "-".

    Raises:
        ConfigError: the file cannot be written.
    """
    import orjson

    value = asdict(result) if is_dataclass(result) and not isinstance(result, type) else result
    data = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)
    if to == "-":
        sys.stdout.write(data.decode())
        return
    path = Path(to)
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise ConfigError(f"Cannot write {to}: {error}.") from error


def check_writable(to: str | None) -> None:
    """Raises ConfigError where `write_json` could not write: to be asked before the measurement, not after."""
    if to is None or to == "-":
        return
    path = Path(to)
    try:
        if path.is_dir() or not path.absolute().parent.is_dir():
            raise ConfigError(f"Cannot write {to}: it is a folder, or lies in one that does not exist.")
        if path.exists() and path.suffix != ".json":
            raise ConfigError(f"{to} exists and is no .json file: results would replace it. Choose another name.")
        part = path.with_name(path.name + ".part")
        if not part.exists():
            part.touch()
            part.unlink()
        elif not (part.is_file() and os.access(part, os.W_OK)):
            raise ConfigError(f"Cannot write {to}: {part} is in the way.")
    except OSError as error:
        raise ConfigError(f"Cannot write {to}: {error}.") from error


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns as wide as they need; the first is set to the left, the others to the right."""
    cells = [list(head), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = []
    for row in cells:
        first, rest = row[0].ljust(widths[0]), [c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([first, *rest]).rstrip())
    return "\n".join(lines)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return str(value)


def share(part: float | None) -> str:
    """A fraction of the limit in words."""
    return "limit unknown" if part is None else f"{100 * part:.0f}% of the limit"
