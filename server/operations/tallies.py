"""Histograms that count in plain numbers, which every call can afford, and hand them to prometheus_client now and then.

prometheus_client takes a lock, or writes to a file, several times for each value; here a value is two additions.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Histogram


class Tally:
    """The values of one series since the last flush: how many in each bucket, and their sum."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.clear()

    def add(self, value: float) -> None:
        """Counts one value."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def clear(self) -> None:
        """Forgets all values."""
        self.counts = [0] * (len(self._bounds) + 1)
        self.total = 0.0


class TalliedHistogram:
    """A histogram of which each series is tallied until `flush`. `bounds` are the buckets' upper ones, but infinity."""

    def __init__(
        self, name: str, documentation: str, bounds: Sequence[float], labels: Sequence[str], registry: CollectorRegistry
    ) -> None:
        self._bounds = bounds
        self._histogram = _Histogram(name, documentation, labels, buckets=bounds, registry=registry)
        self._tallies: dict[tuple[str, ...], Tally] = {}

    def tally(self, *labels: str) -> Tally:
        """Returns the tally of a series, which is born with it."""
        tally = self._tallies.get(labels)
        if tally is None:
            tally = self._tallies[labels] = Tally(self._bounds)
        return tally

    def tallies(self) -> Iterator[tuple[tuple[str, ...], Tally]]:
        """Yields the labels and the tally of each series."""
        yield from self._tallies.items()

    def flush(self) -> None:
        """Hands over what was tallied since the last time."""
        for labels, tally in self._tallies.items():
            series = self._histogram.labels(*labels) if labels else self._histogram
            series.add(tally.counts, tally.total)
            tally.clear()


class _Histogram(Histogram):
    """prometheus_client's, which takes one value at a time, with a way to add many."""

    def add(self, counts: Sequence[int], total: float) -> None:
        """Adds so many values to each bucket, whose sum is `total`."""
        for bucket, count in zip(self._buckets, counts, strict=True):
            bucket.inc(count)
        self._sum.inc(total)
