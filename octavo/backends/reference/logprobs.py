"""The definition of log-probabilities of a row of logits, in float64: a chosen token's, its rank, the best ones'."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from octavo.backends.ops import F32, I32, RowLogprobs


def log_sum_exp(logits: F32) -> float:
    """log(sum(exp(logits))) of one row."""
    top = float(logits.max())
    return top + float(np.log(np.exp(logits.astype(np.float64) - top).sum()))


def logprobs(logits: F32, tokens: I32, num_top: int) -> RowLogprobs:
    """Of token i in row i of logits [S, V]; see `Backend.logprobs`."""
    rows = np.arange(len(logits))
    chosen = logits[rows, tokens]
    totals = np.array([log_sum_exp(row) for row in logits], np.float64)
    top_ids = np.array([_best(row, num_top) for row in logits], np.int32).reshape(len(logits), num_top)
    return RowLogprobs(
        values=chosen.astype(np.float64) - totals,
        ranks=(logits > chosen[:, None]).sum(axis=1).astype(np.int32) + np.int32(1),
        top_ids=top_ids,
        top_values=np.take_along_axis(logits, top_ids.astype(np.intp), axis=1).astype(np.float64) - totals[:, None],
    )


def _best(logits: F32, count: int) -> npt.NDArray[np.int64]:
    if count < len(logits):
        threshold = np.partition(logits, len(logits) - count)[len(logits) - count] if count else np.inf
        candidates = np.flatnonzero(logits >= threshold)
    else:
        candidates = np.arange(len(logits))
    order = np.lexsort((candidates, -logits[candidates]))
    return candidates[order[:count]].astype(np.int64)
