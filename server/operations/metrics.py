"""What the service counts of itself, for Prometheus. Nothing here is labelled by organization: there is no end of them.

The names of calls are those that dashboards for gRPC expect (go-grpc-middleware's), and that of HTTP requests is
OpenTelemetry's; what is this service's own begins with `participants_`.
"""

from __future__ import annotations

import asyncio
import os
import platform
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from server.operations.allowance import Allowance
from server.operations.call_counts import BUCKETS as CALL_SECONDS
from server.operations.call_counts import CallCounts
from server.operations.tallies import TalliedHistogram
from server.operations.workers import WorkerProcesses

# In seconds.
SAMPLE_EVERY = 0.5
# What showing the metrics may take of the processor, which does nothing else meanwhile: this share, and at once so many
# seconds. Anybody can ask for them, and who asks beyond that is shown what was shown last.
SHOW_SHARE, SHOW_AT_ONCE = 0.1, 0.2
STATEMENT_SECONDS = (0.0005, *CALL_SECONDS)
LAG_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
STATEMENT_UPSERTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

# Others would let a caller make as many time series as it likes.
HTTP_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

# What is read again and again instead of counted: what it is, and what several workers' values make together.
GAUGES: dict[str, tuple[str, Literal["livesum", "livemin", "livemax"]]] = {
    "participants_queue_upserts": ("Upserts that wait to be written.", "livesum"),
    "participants_calls_waiting": ("Calls that wait for their turn while several organizations call.", "livesum"),
    "participants_queue_bytes": ("Memory that waiting upserts take.", "livesum"),
    "participants_pool_connections": ("Database connections that are open.", "livesum"),
    "participants_pool_connections_in_use": ("Database connections that a request is using.", "livesum"),
    "participants_pool_waiting": ("Requests that wait for a database connection.", "livesum"),
    "participants_ready": ("1 while the service says that it takes calls, of several workers each.", "livemin"),
    "participants_draining": ("1 once the service was told to stop.", "livemax"),
    "participants_certificate_expiry_timestamp_seconds": ("When the TLS certificate in use ends.", "livemin"),
}


class Metrics:
    """Counts for one process, and shows what all workers have counted. `rpcs` are the names of a service's methods."""

    CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self, service: str, rpcs: Sequence[str]) -> None:
        # When a series began, which nothing here asks for, would be a series of its own beside each.
        disable_created_metrics()
        self._registry = CollectorRegistry()
        self._histograms: list[TalliedHistogram] = []
        self._calls = CallCounts(service, rpcs, self._registry)
        self.started, self.handled = self._calls.started, self._calls.handled
        self._http_seconds = self._tallied(
            "http_server_request_duration_seconds", "How long HTTP requests took, with the reading of their bodies.",
            CALL_SECONDS, "http_request_method", "http_route", "http_response_status_code",
        )  # fmt: skip
        self._statement_upserts = self._tallied(
            "participants_statement_upserts", "Upserts that went to the database in one statement.", STATEMENT_UPSERTS
        )
        self._statement_seconds = self._tallied(
            "participants_statement_seconds", "How long statements of upserts took, with the commit.", STATEMENT_SECONDS
        )
        self._retries = self._counter("participants_retries", "Upserts that went to the database once more.")
        self._refusals = self._counter(
            "participants_refusals", "Calls and batch items that were told an error, by reason.", "reason"
        )
        self._lag = self._tallied("participants_event_loop_lag_seconds", "How late a timer ran.", LAG_SECONDS)
        build = Gauge(
            "participants_build_info", "The versions that run.", ["version", "python", "grpcio"],
            registry=self._registry, multiprocess_mode="livemax",
        )  # fmt: skip
        build.labels(version("participants-server"), platform.python_version(), version("grpcio")).set(1)
        ProcessCollector(registry=self._registry)
        self._gauges: list[tuple[Gauge, Callable[[], float]]] = []
        self._shown = b""
        self._allowance = Allowance(SHOW_SHARE, SHOW_AT_ONCE)

    def http(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts an HTTP request that was answered. `route` is a path template, empty where there is none."""
        if method not in HTTP_METHODS:
            method = "_OTHER"
        self._http_seconds.tally(method, route, str(status)).add(seconds)

    def statement(self, upserts: int, seconds: float) -> None:
        """Counts a statement that wrote, or tried to write, so many upserts."""
        self._statement_upserts.tally().add(upserts)
        self._statement_seconds.tally().add(seconds)

    def retried(self) -> None:
        """Counts an upsert that must go to the database once more."""
        self._retries.inc()

    def refused(self, reason: str) -> None:
        """Counts a call, or an item of a batch, that was told an error. `reason` is one that ServiceErrors have."""
        self._refusals.labels(reason).inc()

    def watch(self, name: str, read: Callable[[], float]) -> None:
        """Shows from now on what `read` returns. `name` is one of GAUGES."""
        documentation, mode = GAUGES[name]
        gauge = Gauge(name, documentation, registry=self._registry, multiprocess_mode=mode)
        self._gauges.append((gauge, read))

    async def sample_forever(self) -> None:
        """Reads what is watched again and again, and how late the event loop is; to be run as a task.

        Of several workers one is asked for the values of all, so it cannot read them at that moment.
        """
        while True:
            self._update()
            due = time.perf_counter() + SAMPLE_EVERY
            await asyncio.sleep(SAMPLE_EVERY)
            self._lag.tally().add(max(0.0, time.perf_counter() - due))

    def exposition(self) -> bytes:
        """Returns the metrics in Prometheus' text format: those of now, unless they were asked for all the time."""
        if not self._allowance.wait():
            started = time.thread_time()
            self._shown = self._written()
            self._allowance.take(time.thread_time() - started)
        return self._shown

    def _written(self) -> bytes:
        self._update()
        directory = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        if directory is None:
            return generate_latest(self._registry)
        # One of several workers: whichever is asked answers for all.
        registry = CollectorRegistry()
        MultiProcessCollector(registry)
        registry.register(WorkerProcesses(directory))
        return generate_latest(registry)

    def _update(self) -> None:
        self._calls.flush()
        for histogram in self._histograms:
            histogram.flush()
        for gauge, read in self._gauges:
            gauge.set(read())

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(name, documentation, labels, registry=self._registry)

    def _tallied(self, name: str, documentation: str, bounds: Sequence[float], *labels: str) -> TalliedHistogram:
        histogram = TalliedHistogram(name, documentation, bounds, labels, self._registry)
        self._histograms.append(histogram)
        return histogram


def forget_worker(pid: int) -> None:
    """Takes out what a worker that died last said of itself; what it counted stays."""
    mark_process_dead(pid)
