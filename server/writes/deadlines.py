"""Whose deadline passes next, at little cost for each call, nearly all of which are done long before."""

from __future__ import annotations

import math

from server.writes.pending import Submission

# Deadlines that lie this close together are looked at together, so one is told so much late; in seconds.
RESOLUTION = 0.01


class Deadlines:
    """The submissions that are held, in buckets by deadline."""

    def __init__(self) -> None:
        self._buckets: dict[int, set[Submission]] = {}

    def add(self, submission: Submission) -> None:
        """Takes a submission in."""
        number = submission.bucket = int(submission.deadline / RESOLUTION) + 1
        bucket = self._buckets.get(number)
        if bucket is None:
            self._buckets[number] = {submission}
        else:
            bucket.add(submission)

    def discard(self, submission: Submission) -> None:
        """Forgets a submission."""
        bucket = self._buckets.get(submission.bucket)
        if bucket is not None:
            bucket.discard(submission)
            if not bucket:
                del self._buckets[submission.bucket]

    def next(self) -> float:
        """Returns when `passed` has something to say, infinity if never."""
        return min(self._buckets, default=math.inf) * RESOLUTION

    def passed(self, now: float) -> list[Submission]:
        """Takes out those whose deadline has passed."""
        numbers = [number for number in self._buckets if number * RESOLUTION <= now]
        return [submission for number in numbers for submission in self._buckets.pop(number)]
