"""Prometheus metrics of one server: its own registry, fed by the Deltas that pass and by the engine's statistics."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from octavo.base.types import Delta, EngineStats
from octavo.server.streams import close

_LATENCY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_TOKENS_AT_ONCE = 16  # a counter's increment takes a lock
_GAP_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Metrics:
    """Counters and histograms by request; the engine's numbers at scrape time. One per server: no global registry."""

    def __init__(self, model: str) -> None:
        self.registry = _Registry()
        self._model = model
        self._requests = Counter(
            "octavo_requests_total",
            "Completions that ended, by reason; 'abort' are those whose client left",
            ("model_name", "finish_reason"),
            registry=self.registry,
        )
        self._ttft = self._histogram("time_to_first_token_seconds", "Request to first token", _LATENCY_S)
        self._gap = _PlainHistogram(
            "inter_token_latency_seconds", "Between two messages with tokens of a completion", model, _GAP_S
        )
        self.registry.register(self._gap)
        self._total = self._histogram("request_duration_seconds", "Request to its end", _LATENCY_S)
        self._prompt = self._counter("prompt_tokens", "Prompt tokens of requests served")
        self._cached = self._counter("prompt_tokens_cached", "Prompt tokens found in the prefix cache")
        self._generated = self._counter("generation_tokens", "Tokens generated")
        self._engine = _EngineNumbers(model)
        self.registry.register(self._engine)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        metric = Histogram(f"octavo_{name}", text, ("model_name",), registry=self.registry, buckets=buckets)
        return metric.labels(self._model)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"octavo_{name}_total", text, ("model_name",), registry=self.registry).labels(self._model)

    async def observed(self, stream: AsyncIterator[Delta], n: int) -> AsyncIterator[Delta]:
        """The same Deltas of `n` completions, counted and timed as they pass."""
        begin = time.monotonic()
        last: dict[int, float] = {}
        unfinished = n
        generated = 0
        try:
            async for delta in stream:
                now = time.monotonic()
                if not last:
                    self._ttft.observe(now - begin)
                    self._prompt.inc(delta.num_prompt_tokens)
                    self._cached.inc(delta.num_cached_tokens)
                elif delta.index in last:
                    self._gap.observe(now - last[delta.index])
                last[delta.index] = now
                generated += len(delta.token_ids)
                if generated >= _TOKENS_AT_ONCE:
                    self._generated.inc(generated)
                    generated = 0
                if delta.finish_reason is not None:
                    unfinished -= 1
                    self._requests.labels(self._model, delta.finish_reason).inc()
                yield delta
        finally:
            self._generated.inc(generated)
            if unfinished:
                self._requests.labels(self._model, "abort").inc(unfinished)
            self._total.observe(time.monotonic() - begin)
            await close(stream)

    def exposition(self, stats: EngineStats | None) -> bytes:
        """The text format; `stats` None means that the engine is gone."""
        self._engine.stats = stats
        return generate_latest(self.registry)


class _Registry(CollectorRegistry):
    """Without the series of creation times that the library adds to every counter: they double what is scraped."""

    def collect(self) -> Iterator[Metric]:
        for metric in super().collect():
            metric.samples = [s for s in metric.samples if not s.name.endswith("_created")]
            yield metric


class _PlainHistogram:
    """A histogram that one event loop feeds: without locks, for what happens with every token."""

    def __init__(self, name: str, text: str, model: str, bounds: tuple[float, ...]) -> None:
        self._name, self._text, self._model = f"octavo_{name}", text, model
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def collect(self) -> Iterator[Metric]:
        labels = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        family = HistogramMetricFamily(self._name, self._text, labels=["model_name"])
        family.add_metric([self._model], list(zip(labels, accumulate(self._counts), strict=True)), self._sum)
        yield family


class _EngineNumbers:
    """A collector of what the engine said last."""

    def __init__(self, model: str) -> None:
        self._model = model
        self.stats: EngineStats | None = None

    def collect(self) -> Iterator[Metric]:
        stats = self.stats
        yield self._gauge("engine_up", "1 while the engine process answers", 0 if stats is None else 1)
        if stats is None:
            return
        yield self._gauge("num_requests_running", "Sequences in the running batch", stats.num_running)
        yield self._gauge("num_requests_waiting", "Sequences waiting for room", stats.num_waiting)
        used = stats.kv_pages_used / max(1, stats.kv_pages_total)
        yield self._gauge("kv_cache_usage_ratio", "Share of KV pages in use, from 0 to 1", used)
        yield self._counter("preemptions", "Sequences put back to make room", stats.num_preemptions)
        yield self._counter("engine_steps", "Steps of the engine", stats.num_steps)
        yield self._counter("engine_step_seconds", "Seconds spent in steps", stats.step_seconds)

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        metric = GaugeMetricFamily(f"octavo_{name}", text, labels=["model_name"])
        metric.add_metric([self._model], value)
        return metric

    def _counter(self, name: str, text: str, value: float) -> Metric:
        metric = CounterMetricFamily(f"octavo_{name}", text, labels=["model_name"])
        metric.add_metric([self._model], value)
        return metric
