"""The definition of sampling: from one row of logits to a token id.

A row with a NaN, or with nothing but -inf, has no distribution: a negative number says so (the runner fails the row).
Disallowed tokens are -inf. A greedy row (temperature 0) takes the first maximum. Else, with z = logits /
temperature in float32, tokens are dropped in this order:

1. min_p: keep z - max(z) >= log(min_p), that is, probability >= min_p times the largest.
2. top_k: keep z >= the k-th largest of what remains; all that equal it stay.
3. top_p: of the softmax of what remains, in falling order (equals: lower id first), keep the shortest prefix whose sum
   is at least top_p; at least one token.

What remains is drawn from by the Gumbel-max trick (Gumbel 1954): the first maximum of z + g in float64, where
g = -log(-log(u)), u = ((h >> 40) + 0.5) * 2^-24, h = mix(mix(seed) ^ mix(position * 0x9E3779B97F4A7C15 + token)) and
mix is the splitmix64 finalizer (Steele et al. 2014) in wrapping 64-bit arithmetic. So the noise of a token depends on
the request's seed and the position alone.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from octavo.backends.ops import F32, I32, NOT_A_NUMBER, NOTHING_LEFT, SampleRows

U64 = npt.NDArray[np.uint64]
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def sample(logits: F32, rows: SampleRows) -> I32:
    """Token ids [S] from logits [S, V]."""
    return np.array([_sample_row(logits[i], rows, i) for i in range(len(logits))], np.int32)


def gumbel_noise(seed: int, position: int, num_tokens: int) -> npt.NDArray[np.float64]:
    """The noise [num_tokens] of every token at one position."""
    with np.errstate(over="ignore"):
        tokens = np.arange(num_tokens, dtype=np.uint64)
        here = np.array([position], np.uint64) * GOLDEN
        bits = mix(mix(np.array([seed], np.uint64)) ^ mix(here + tokens))
    u = ((bits >> np.uint64(40)).astype(np.float64) + 0.5) * 2.0**-24
    noise: npt.NDArray[np.float64] = -np.log(-np.log(u))
    return noise


def mix(z: U64) -> U64:
    """The splitmix64 finalizer, element by element."""
    with np.errstate(over="ignore"):
        z = z + GOLDEN
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _sample_row(logits: F32, rows: SampleRows, i: int) -> int:
    if np.isnan(logits).any():
        return NOT_A_NUMBER
    if logits.max() == -np.inf:
        return NOTHING_LEFT
    temperature = rows.temperature[i]
    if temperature == 0:
        return int(np.argmax(logits))
    z = logits / temperature
    z = _keep_min_p(z, float(rows.min_p[i]))
    z = _keep_top_k(z, int(rows.top_k[i]))
    z = _keep_top_p(z, float(rows.top_p[i]))
    noise = gumbel_noise(int(rows.seeds[i]), int(rows.positions[i]), len(z))
    return int(np.argmax(z.astype(np.float64) + noise))


def _dropped(z: F32, keep: npt.NDArray[np.bool_]) -> F32:
    return np.where(keep, z, np.float32(-np.inf))


def _keep_min_p(z: F32, min_p: float) -> F32:
    if min_p <= 0:
        return z
    return _dropped(z, z - z.max() >= np.float32(np.log(min_p)))


def _keep_top_k(z: F32, top_k: int) -> F32:
    if top_k <= 0 or top_k >= len(z):
        return z
    return _dropped(z, z >= np.partition(z, -top_k)[-top_k])


def _keep_top_p(z: F32, top_p: float) -> F32:
    if top_p >= 1:
        return z
    order = np.argsort(-z, kind="stable")
    p = np.exp((z[order] - z[order[0]]).astype(np.float64))
    reached = np.cumsum(p) >= top_p * p.sum()
    keep = np.zeros(len(z), np.bool_)
    keep[order[: int(np.argmax(reached)) + 1]] = True
    return _dropped(z, keep)
