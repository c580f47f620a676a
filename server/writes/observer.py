"""Who is told what the writer does."""

from __future__ import annotations


class Observer:
    """Is told of every statement and every retry. This one takes no notice."""

    def statement(self, upserts: int, seconds: float) -> None:
        """A statement of so many upserts has ended, well or not, its commit included."""

    def retried(self) -> None:
        """An upsert that lost to another transaction goes to the database once more."""
