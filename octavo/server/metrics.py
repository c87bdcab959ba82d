"""Prometheus metrics of one server: its own registry, fed by the Deltas that pass and by the engine's statistics."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from octavo.base.types import Delta, EngineStats

_LATENCY_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_GAP_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_GAUGES = (
    ("num_requests_running", "Sequences in the running batch"),
    ("num_requests_waiting", "Sequences waiting for room"),
    ("kv_cache_usage_ratio", "Share of KV pages in use, from 0 to 1"),
    ("num_preemptions", "Sequences put back to make room, since the start"),
    ("engine_steps", "Steps of the engine, since the start"),
    ("engine_step_seconds", "Seconds spent in steps, since the start"),
    ("engine_up", "1 while the engine process answers"),
)


class Metrics:
    """Counters and histograms by request; gauges from the engine at scrape time. One per server: no global registry."""

    def __init__(self, model: str) -> None:
        self.registry = CollectorRegistry()
        self._model = model
        self._requests = Counter(
            "octavo_requests_total",
            "Completions that ended, by reason",
            ("model_name", "finish_reason"),
            registry=self.registry,
        )
        self._ttft = self._histogram("time_to_first_token_seconds", "Request to first token", _LATENCY_S)
        self._gap = self._histogram(
            "inter_token_latency_seconds", "Between two messages with tokens of a completion", _GAP_S
        )
        self._total = self._histogram("request_duration_seconds", "Request to its end", _LATENCY_S)
        self._prompt = self._counter("prompt_tokens", "Prompt tokens of requests served")
        self._cached = self._counter("prompt_tokens_cached", "Prompt tokens found in the prefix cache")
        self._generated = self._counter("generation_tokens", "Tokens generated")
        self._gauges = {name: self._gauge(name, text) for name, text in _GAUGES}

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        metric = Histogram(f"octavo_{name}", text, ("model_name",), registry=self.registry, buckets=buckets)
        return metric.labels(self._model)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"octavo_{name}_total", text, ("model_name",), registry=self.registry).labels(self._model)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"octavo_{name}", text, ("model_name",), registry=self.registry).labels(self._model)

    async def observed(self, stream: AsyncIterator[Delta]) -> AsyncIterator[Delta]:
        """The same Deltas, counted and timed as they pass."""
        begin = time.monotonic()
        last: dict[int, float] = {}
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
                self._generated.inc(len(delta.token_ids))
                if delta.finish_reason is not None:
                    self._requests.labels(self._model, delta.finish_reason).inc()
                yield delta
        finally:
            self._total.observe(time.monotonic() - begin)
            close = getattr(stream, "aclose", None)
            if close is not None:
                await close()

    def exposition(self, stats: EngineStats | None) -> bytes:
        """The text format; `stats` None means that the engine is gone."""
        gauges = self._gauges
        gauges["engine_up"].set(0 if stats is None else 1)
        if stats is not None:
            gauges["num_requests_running"].set(stats.num_running)
            gauges["num_requests_waiting"].set(stats.num_waiting)
            gauges["kv_cache_usage_ratio"].set(stats.kv_pages_used / max(1, stats.kv_pages_total))
            gauges["num_preemptions"].set(stats.num_preemptions)
            gauges["engine_steps"].set(stats.num_steps)
            gauges["engine_step_seconds"].set(stats.step_seconds)
        return generate_latest(self.registry)
