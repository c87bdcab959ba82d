"""Log-probabilities of a row of raw logits: the chosen token's, its rank, and the best alternatives'."""

from __future__ import annotations

import numpy as np

from octavo.backends.ops import F32
from octavo.base.types import TokenLogprobs


def log_sum_exp(logits: F32) -> float:
    """log(sum(exp(logits))) of one row, in float64 so that it does not depend on the row's neighbours or order."""
    top = float(logits.max())
    return top + float(np.log(np.exp(logits.astype(np.float64) - top).sum()))


def token_logprobs(logits: F32, token: int, num_top: int) -> TokenLogprobs:
    """Of `token` in one row of raw logits [V], with the `num_top` best (all of them for -1); ties by lower id."""
    total = log_sum_exp(logits)
    count = len(logits) if num_top == -1 else min(num_top, len(logits))
    top: tuple[int, ...] = ()
    if count:
        top = tuple(int(i) for i in _best(logits, count))
    value = logits[token]
    return TokenLogprobs(
        token_id=int(token),
        logprob=float(value) - total,
        rank=int(np.count_nonzero(logits > value)) + 1,
        top_ids=top,
        top_logprobs=tuple(float(logits[i]) - total for i in top),
    )


def _best(logits: F32, count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    if count < len(logits):
        threshold = np.partition(logits, len(logits) - count)[len(logits) - count]
        candidates = np.flatnonzero(logits >= threshold)
    else:
        candidates = np.arange(len(logits))
    order = np.lexsort((candidates, -logits[candidates]))
    return candidates[order[:count]].astype(np.int64)
