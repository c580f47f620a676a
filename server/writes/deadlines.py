"""Whose deadline passes next, at little cost for each upsert, nearly all of which are done long before."""

from __future__ import annotations

import math

from server.writes.pending import PendingUpsert

# Deadlines that lie this close together are looked at together, so one is told so much late; in seconds.
RESOLUTION = 0.01


class Deadlines:
    """The upserts that are held, in buckets by deadline."""

    def __init__(self) -> None:
        self._buckets: dict[int, set[PendingUpsert]] = {}

    def add(self, pending: PendingUpsert) -> None:
        """Takes an upsert in."""
        number = pending.bucket = int(pending.deadline / RESOLUTION) + 1
        bucket = self._buckets.get(number)
        if bucket is None:
            self._buckets[number] = {pending}
        else:
            bucket.add(pending)

    def discard(self, pending: PendingUpsert) -> None:
        """Forgets an upsert."""
        bucket = self._buckets.get(pending.bucket)
        if bucket is not None:
            bucket.discard(pending)
            if not bucket:
                del self._buckets[pending.bucket]

    def next(self) -> float:
        """Returns when `passed` has something to say, infinity if never."""
        return min(self._buckets, default=math.inf) * RESOLUTION

    def passed(self, now: float) -> list[PendingUpsert]:
        """Takes out those whose deadline has passed."""
        numbers = [number for number in self._buckets if number * RESOLUTION <= now]
        return [pending for number in numbers for pending in self._buckets.pop(number)]
