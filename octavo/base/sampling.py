"""SamplingParams: what a caller may ask of the sampler, with vLLM's names, defaults and ranges.

Knows nothing of logits. The order in which the controls act is documented, once, in `octavo/runner/controls.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from typing import Any

from octavo.base.errors import InvalidRequestError

GREEDY_BELOW = 1e-5  # temperatures under this choose the most likely token
MIN_TEMPERATURE = 0.01  # smaller positive temperatures are raised to this: exp() would overflow
MAX_LOGPROBS = 20
MAX_STOP_STRINGS = 16
_NUMBERS = (
    "n", "max_tokens", "min_tokens", "temperature", "top_p", "top_k", "min_p", "presence_penalty",
    "frequency_penalty", "repetition_penalty", "seed", "logprobs", "prompt_logprobs",
)  # fmt: skip


def _require(ok: bool, param: str, rule: str, value: object) -> None:
    if not ok:
        raise InvalidRequestError(f"{param} must be {rule}, got {value!r}.", param=param)


def _own_number(value: object) -> object:
    """Numbers of other libraries (NumPy's scalars) as Python's; anything else as it is."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else value


def _integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(kw_only=True)
class SamplingParams:
    """Controls of one request's sampling.

    `seed=None` asks the engine for a fresh seed: then two equal requests differ. `max_tokens=None` means up to the
    context window. `logprobs=k` returns the k best tokens' log-probabilities beside the sampled one's; -1 means all.

    Raises:
        InvalidRequestError: a value out of its range; `param` names it.
    """

    n: int = 1
    max_tokens: int | None = 16
    min_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: str | Sequence[str] | None = None
    stop_token_ids: Sequence[int] | None = None
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    bad_words: Sequence[str] | None = None
    allowed_token_ids: Sequence[int] | None = None
    logit_bias: Mapping[int, float] | None = None
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    detokenize: bool = True
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    stop_strings: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._normalize()
        self._check_ranges()
        self._check_lists()

    def _normalize(self) -> None:
        for name in _NUMBERS:
            setattr(self, name, _own_number(getattr(self, name)))
        for name in ("stop_token_ids", "allowed_token_ids"):
            ids = getattr(self, name)
            if ids is not None and not isinstance(ids, str):
                setattr(self, name, [_own_number(i) for i in ids])
        if self.top_k == -1:
            self.top_k = 0
        if self.seed == -1:
            self.seed = None
        if isinstance(self.stop, str):
            self.stop_strings = (self.stop,)
        else:
            self.stop_strings = tuple(self.stop or ())
        if _number(self.temperature) and GREEDY_BELOW <= self.temperature < MIN_TEMPERATURE:
            self.temperature = MIN_TEMPERATURE
        if self.logit_bias:
            try:
                bias = {int(k): float(v) for k, v in self.logit_bias.items()}
            except (TypeError, ValueError) as e:
                raise InvalidRequestError("logit_bias must map token ids to numbers.", param="logit_bias") from e
            self.logit_bias = {k: min(100.0, max(-100.0, v)) for k, v in bias.items()}

    def _check_ranges(self) -> None:
        _require(_integer(self.n) and 1 <= self.n <= 16384, "n", "an integer from 1 to 16384", self.n)
        _require(
            self.max_tokens is None or (_integer(self.max_tokens) and self.max_tokens >= 1),
            "max_tokens", "an integer of at least 1, or null", self.max_tokens,
        )  # fmt: skip
        most = math.inf if self.max_tokens is None else self.max_tokens
        _require(
            _integer(self.min_tokens) and 0 <= self.min_tokens <= most,
            "min_tokens", f"an integer from 0 to max_tokens ({self.max_tokens})", self.min_tokens,
        )  # fmt: skip
        _require(_number(self.temperature) and 0 <= self.temperature <= 2, "temperature", "between 0 and 2",
                 self.temperature)  # fmt: skip
        _require(_number(self.top_p) and 0 < self.top_p <= 1, "top_p", "in (0, 1]", self.top_p)
        _require(_integer(self.top_k) and self.top_k >= 0, "top_k", "an integer of at least 1, or 0 / -1 for off",
                 self.top_k)  # fmt: skip
        _require(_number(self.min_p) and 0 <= self.min_p <= 1, "min_p", "in [0, 1]", self.min_p)
        for name in ("presence_penalty", "frequency_penalty"):
            value = getattr(self, name)
            _require(_number(value) and -2 <= value <= 2, name, "between -2 and 2", value)
        _require(_number(self.repetition_penalty) and self.repetition_penalty > 0, "repetition_penalty",
                 "a number above 0", self.repetition_penalty)  # fmt: skip
        _require(self.seed is None or (_integer(self.seed) and -(2**63) <= self.seed < 2**64), "seed",
                 "a 64-bit integer", self.seed)  # fmt: skip
        for name in ("logprobs", "prompt_logprobs"):
            value = getattr(self, name)
            _require(value is None or (_integer(value) and value >= -1), name, "an integer of at least -1", value)

    def _check_lists(self) -> None:
        _require(len(self.stop_strings) <= MAX_STOP_STRINGS, "stop", f"at most {MAX_STOP_STRINGS} strings", self.stop)
        _require(all(isinstance(s, str) and s for s in self.stop_strings), "stop", "non-empty strings", self.stop)
        _require(self.detokenize or not self.stop_strings, "stop", "empty when detokenize is off", self.stop)
        for name in ("stop_token_ids", "allowed_token_ids"):
            ids = getattr(self, name)
            _require(ids is None or all(_integer(i) and i >= 0 for i in ids), name, "a list of token ids", ids)
        _require(self.allowed_token_ids is None or len(self.allowed_token_ids) > 0, "allowed_token_ids",
                 "a list with at least one id, or null", self.allowed_token_ids)  # fmt: skip
        words = self.bad_words
        _require(words is None or (not isinstance(words, str) and all(isinstance(w, str) and w for w in words)),
                 "bad_words", "a list of non-empty strings", words)  # fmt: skip

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is taken, so that top_p, top_k and min_p do nothing."""
        return self.temperature < GREEDY_BELOW

    def clone(self, **changes: Any) -> SamplingParams:
        """A checked copy with some fields changed."""
        return replace(self, **changes)
