"""Upserts on their way through the writer, and the callers who wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from server.participants.model import Outcome, Rejected, Upsert

# An organization and an external_id.
Key = tuple[str, str]


@dataclass(slots=True, eq=False)
class Submission:
    """Upserts of one organization that came together, and the caller who waits for what becomes of all of them.

    It is held from submit until the last of its upserts is released; `left` counts those that are not. `outcomes` are
    in the order of the upserts, each as `keep` makes it, if there is one, and None for one of which nothing is known
    yet. `size` is about the bytes of them all. `deadline` is on the event loop's clock, and `bulk` says which queue
    they go to. `trace` is the call's, for whoever observes; `on_wait` is told when one of them waits for its
    participant; `bucket` is where `Deadlines` keeps it.
    """

    organization_id: str
    outcomes: list[Any]
    size: int
    deadline: float
    bulk: bool
    future: asyncio.Future[Sequence[Any]]
    keep: Callable[[Outcome], Any] | None
    on_wait: Callable[[], None] | None
    trace: Any
    left: int
    bucket: int = 0

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits still."""
        return not self.future.done()

    def is_wanted(self, now: float) -> bool:
        """Whether somebody waits still who has time."""
        return self.deadline > now and not self.future.done()

    def settle(self, position: int, outcome: Outcome) -> None:
        """Notes what became of one of the upserts."""
        self.outcomes[position] = outcome if self.keep is None else self.keep(outcome)

    def finish(self, rest: Rejected) -> None:
        """Tells the caller what is known; of upserts of which nothing is, the same."""
        if not self.future.done():
            kept = rest if self.keep is None else self.keep(rest)
            self.future.set_result([kept if outcome is None else outcome for outcome in self.outcomes])


@dataclass(slots=True, eq=False)
class PendingUpsert:
    """An upsert that is held, from submit until release.

    `position` is its place in its submission. `route` says which upserts it may share a statement with; one that is
    `alone` shares with none, since it may hold others up.
    """

    upsert: Upsert
    key: Key
    route: str
    submission: Submission
    position: int
    attempts: int = 0
    alone: bool = False

    def waits(self) -> None:
        """Tells that it waits for its participant, which others are writing or have locked."""
        if self.submission.on_wait is not None:
            self.submission.on_wait()
