"""Counts the calls of a service's RPCs."""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter

from server.operations.tallies import TalliedHistogram, Tally

LABELS = ("grpc_type", "grpc_service", "grpc_method")
OUR_FAILURES = ("UNAVAILABLE", "INTERNAL", "DEADLINE_EXCEEDED")
# In seconds.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class CallCounts:
    """Counts in plain numbers, and tells prometheus_client by `flush` what many calls have added."""

    def __init__(self, service: str, rpcs: Sequence[str], registry: CollectorRegistry) -> None:
        self._service = service
        self._started = Counter(
            "grpc_server_started", "Calls that began, by either transport.", LABELS, registry=registry
        )
        self._handled = Counter(
            "grpc_server_handled", "Calls that ended.", (*LABELS, "grpc_code"), registry=registry
        )  # fmt: skip
        self._seconds = TalliedHistogram(
            "grpc_server_handling_seconds", "How long calls took, with all their waiting.", BUCKETS,
            (*LABELS, "grpc_code"), registry,
        )  # fmt: skip
        self._new = dict.fromkeys(rpcs, 0)
        # By RPC and code.
        self._tallies: dict[tuple[str, str], Tally] = {}
        # A rate does not see what a counter was born with, so those that alerts ask for are born at once.
        for rpc in rpcs:
            self._seconds.tally("unary", service, rpc, "OK")
            for code in OUR_FAILURES:
                self._handled.labels("unary", service, rpc, code)
        self.flush()

    def started(self, rpc: str) -> None:
        """Counts a call that begins."""
        self._new[rpc] += 1

    def handled(self, rpc: str, code: str, seconds: float) -> None:
        """Counts a call that ended with a gRPC code."""
        tally = self._tallies.get((rpc, code))
        if tally is None:
            tally = self._tallies[rpc, code] = self._seconds.tally("unary", self._service, rpc, code)
        tally.add(seconds)

    def flush(self) -> None:
        """Hands over what was counted since the last time."""
        for rpc, number in self._new.items():
            self._started.labels("unary", self._service, rpc).inc(number)
            self._new[rpc] = 0
        for labels, tally in self._seconds.tallies():
            self._handled.labels(*labels).inc(sum(tally.counts))
        self._seconds.flush()
