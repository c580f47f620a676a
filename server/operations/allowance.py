"""How much of something everybody together may have who needs no key."""

from __future__ import annotations

import time


class Allowance:
    """So much a second, and at once what was not taken in the seconds before, at most `saved`."""

    def __init__(self, a_second: float, saved: float) -> None:
        self._a_second = a_second
        self._ahead = saved / a_second
        # When all that was taken would have come in, had it been taken evenly.
        self._paid = 0.0

    def wait(self) -> float:
        """Returns in how many seconds there is some; 0 if now."""
        return max(0.0, self._paid - self._ahead - time.monotonic())

    def take(self, amount: float) -> None:
        """Takes some, whether or not it is there: then the next have to wait longer."""
        self._paid = max(self._paid, time.monotonic()) + amount / self._a_second
