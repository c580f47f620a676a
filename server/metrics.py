"""What the service counts of itself, for Prometheus."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Calls by RPC and by gRPC code, and how long they took."""

    CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._calls = Counter(
            "participants_calls_total",
            "Calls answered, by RPC and gRPC code.",
            ["rpc", "code"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "participants_call_seconds",
            "Time to answer a call, by RPC.",
            ["rpc"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        # Looking a labelled child up costs more than counting on it.
        self._counters: dict[tuple[str, str], Counter] = {}
        self._histograms: dict[str, Histogram] = {}

    def observe(self, rpc: str, code: str, seconds: float) -> None:
        """Counts one call."""
        counter = self._counters.get((rpc, code))
        if counter is None:
            counter = self._counters[rpc, code] = self._calls.labels(rpc, code)
            self._histograms.setdefault(rpc, self._seconds.labels(rpc))
        counter.inc()
        self._histograms[rpc].observe(seconds)

    def exposition(self) -> bytes:
        """Returns the metrics in Prometheus' text format."""
        registry = self._registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            # One of several workers: whichever is asked answers for all.
            registry = CollectorRegistry()
            MultiProcessCollector(registry)
        return generate_latest(registry)
