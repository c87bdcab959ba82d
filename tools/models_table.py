"""Prints the table of model families, from the code; `--write` puts it into README.md between its marks."""

from __future__ import annotations

import sys
from pathlib import Path

from octavo.models.families import FAMILIES

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- families: made by tools/models_table.py -->", "<!-- /families -->"


def table() -> str:
    """Markdown: models, their names in Hugging Face and GGUF files."""
    lines = ["| models | Hugging Face `architectures` | GGUF `general.architecture` |", "|---|---|---|"]
    for family in FAMILIES:
        titles = ", ".join(family.titles)
        hf = ", ".join(f"`{name}`" for name in family.hf_architectures)
        gguf = ", ".join(f"`{name}`" for name in family.gguf_architectures) or "in `llama` files"
        lines.append(f"| {titles} | {hf} | {gguf} |")
    return "\n".join(lines)


def updated(text: str) -> str:
    """README's text with the table of now."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        README.write_text(updated(README.read_text()))
    else:
        print(table())
