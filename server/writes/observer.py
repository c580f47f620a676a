"""Who is told what the writer does."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

# The trace of the call that is being served, if it has one: whoever observes knows what it is.
current_trace: ContextVar[Any] = ContextVar("current_trace", default=None)


class Observer:
    """Is told of every statement and every retry. This one takes no notice."""

    def statement(self, upserts: int, seconds: float, traces: Sequence[Any]) -> None:
        """A statement of so many upserts has ended, well or not, its commit included.

        `traces` are those of its upserts; the items of a batch have one and the same.
        """

    def refused(self, reason: str) -> None:
        """An upsert of a batch was refused before it was taken in; a call of its own is told so, and counted there."""

    def retried(self) -> None:
        """An upsert that lost to another transaction goes to the database once more."""
