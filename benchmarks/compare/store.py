"""Samples on disk: one JSON object a line, appended as soon as it is there, so that a cut run loses nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

Sample = dict[str, Any]


def load(path: Path) -> list[Sample]:
    """All whole lines; a last one that was cut is left out."""
    if not path.exists():
        return []
    samples = []
    for line in path.read_text().splitlines():
        try:
            samples.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return samples


def append(path: Path, sample: Sample) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = not path.exists() or path.read_bytes()[-1:] in (b"", b"\n")
    with path.open("a") as file:
        file.write(("" if whole else "\n") + json.dumps(sample) + "\n")
