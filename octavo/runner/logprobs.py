"""Log-probabilities of rows of raw logits as the values that leave the runner."""

from __future__ import annotations

from octavo.backends.ops import F32, I32, Backend
from octavo.base.types import TokenLogprobs


def token_logprobs(backend: Backend, logits: F32, tokens: I32, num_top: int) -> list[TokenLogprobs]:
    """Of token i in row i of raw logits [S, V], with the `num_top` best of each row (all of them for -1)."""
    num_top = logits.shape[1] if num_top == -1 else min(num_top, logits.shape[1])
    found = backend.logprobs(logits, tokens, num_top)
    columns = zip(
        tokens.tolist(),
        found.values.tolist(),
        found.ranks.tolist(),
        found.top_ids.tolist(),
        found.top_values.tolist(),
        strict=True,
    )
    return [TokenLogprobs(id, value, rank, tuple(ids), tuple(values)) for id, value, rank, ids, values in columns]
