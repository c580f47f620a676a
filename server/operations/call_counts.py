"""Counts calls in plain numbers, which every call can afford, and hands them to prometheus_client now and then."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram

LABELS = ("grpc_type", "grpc_service", "grpc_method")
OUR_FAILURES = ("UNAVAILABLE", "INTERNAL", "DEADLINE_EXCEEDED")
# In seconds.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class CallCounts:
    """Counts the calls of a service's RPCs. prometheus_client would take a lock, or write to a file, several times
    for each; here a call is three additions, and `flush` writes what many have added."""

    def __init__(self, service: str, rpcs: Sequence[str], registry: CollectorRegistry) -> None:
        self._service = service
        self._started = Counter(
            "grpc_server_started", "Calls that began, by either transport.", LABELS, registry=registry
        )
        self._handled = Counter(
            "grpc_server_handled", "Calls that ended.", (*LABELS, "grpc_code"), registry=registry
        )  # fmt: skip
        self._seconds = _Histogram(
            "grpc_server_handling_seconds", "How long calls took, with all their waiting.", (*LABELS, "grpc_code"),
            buckets=BUCKETS, registry=registry,
        )  # fmt: skip
        self._new = dict.fromkeys(rpcs, 0)
        self._ended: dict[tuple[str, str], _Ended] = {}
        # A rate does not see what a counter was born with, so those that alerts ask for are born at once.
        for rpc in rpcs:
            self._ended[rpc, "OK"] = _Ended()
            for code in OUR_FAILURES:
                self._handled.labels("unary", service, rpc, code)
        self.flush()

    def started(self, rpc: str) -> None:
        """Counts a call that begins."""
        self._new[rpc] += 1

    def handled(self, rpc: str, code: str, seconds: float) -> None:
        """Counts a call that ended with a gRPC code."""
        ended = self._ended.get((rpc, code))
        if ended is None:
            ended = self._ended[rpc, code] = _Ended()
        ended.counts[bisect_left(BUCKETS, seconds)] += 1
        ended.seconds += seconds

    def flush(self) -> None:
        """Hands over what was counted since the last time."""
        for rpc, number in self._new.items():
            self._started.labels("unary", self._service, rpc).inc(number)
            self._new[rpc] = 0
        for (rpc, code), ended in self._ended.items():
            labels = ("unary", self._service, rpc, code)
            self._handled.labels(*labels).inc(sum(ended.counts))
            self._seconds.labels(*labels).add(ended.counts, ended.seconds)
            ended.counts, ended.seconds = [0] * (len(BUCKETS) + 1), 0.0


class _Ended:
    """The calls that ended alike since the last flush: how many in each bucket, and their seconds together."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0


class _Histogram(Histogram):
    """prometheus_client's, which takes one value at a time, with a way to add many."""

    def add(self, counts: Sequence[int], total: float) -> None:
        """Adds so many values to each bucket, whose sum is `total`."""
        for bucket, count in zip(self._buckets, counts, strict=True):
            bucket.inc(count)
        self._sum.inc(total)
