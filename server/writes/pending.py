"""An upsert on its way through the writer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from server.participants.model import Outcome, Upsert

# An organization and an external_id.
Key = tuple[str, str]


@dataclass(slots=True, eq=False)
class PendingUpsert:
    """An upsert that is held, from submit until release, and the caller who waits for what becomes of it.

    `deadline` is on the event loop's clock. `route` and `bulk` say which upserts it may share a statement with; one
    that is `alone` shares with none, since it may hold others up. `trace` is its call's, for whoever observes;
    `on_wait` is told when it waits for its participant; `bucket` is where `Deadlines` keeps it.
    """

    upsert: Upsert
    key: Key
    deadline: float
    route: str
    bulk: bool
    outcome: asyncio.Future[Outcome]
    attempts: int = 0
    alone: bool = False
    trace: Any = None
    on_wait: Callable[[], None] | None = None
    bucket: int = 0

    @property
    def organization_id(self) -> str:
        return self.key[0]

    def waits(self) -> None:
        """Tells that it waits for its participant, which others are writing or have locked."""
        if self.on_wait is not None:
            self.on_wait()

    def is_wanted(self, now: float) -> bool:
        """Whether somebody waits for it who still has time."""
        return self.deadline > now and not self.outcome.done()
