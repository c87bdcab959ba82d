"""Writes tests/golden/demo_perplexity.json: the demo model's perplexity by the float32 reference, in every format.

    python -m tools.golden.make_perplexity

The reference takes minutes for what the fast kernels do in seconds: tests compare those with these numbers, and the
long tests make the numbers again.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from octavo.backends.reference import ReferenceBackend
from tests.models.requantized import DEMO, demo, demo_texts
from tests.weights.formats.block_encoders import ENCODERS

OUT = Path(__file__).parents[2] / "tests" / "golden" / "demo_perplexity.json"
CONVERSATIONS = 240


def main() -> None:
    texts = demo_texts(CONVERSATIONS)
    nats = {}
    for format in sorted(ENCODERS):
        nats[format] = float(demo(ReferenceBackend(), format).nats(texts).mean())
        print(format, nats[format], flush=True)
    model = hashlib.sha256((DEMO / "octavo-demo.gguf").read_bytes()).hexdigest()
    tokens = sum(len(text.ids) - text.head for text in texts)
    golden = {"model_sha256": model, "conversations": CONVERSATIONS, "tokens": tokens, "nats_per_token": nats}
    OUT.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
