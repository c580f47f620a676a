"""What the service counts of itself, for Prometheus."""

from __future__ import annotations

import os

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Calls by RPC and gRPC code, how many there were and how long they took."""

    CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._seconds = Histogram(
            "participants_call_seconds",
            "Calls answered and the time they took, by RPC and gRPC code.",
            ["rpc", "code"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        # Looking a labelled child up costs more than counting on it.
        self._histograms: dict[tuple[str, str], Histogram] = {}

    def observe(self, rpc: str, code: str, seconds: float) -> None:
        """Counts one call."""
        histogram = self._histograms.get((rpc, code))
        if histogram is None:
            histogram = self._histograms[rpc, code] = self._seconds.labels(rpc, code)
        histogram.observe(seconds)

    def exposition(self) -> bytes:
        """Returns the metrics in Prometheus' text format."""
        registry = self._registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            # One of several workers: whichever is asked answers for all.
            registry = CollectorRegistry()
            MultiProcessCollector(registry)
        return generate_latest(registry)
