"""An upsert on its way through the writer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from server.participants.model import Outcome, Upsert


@dataclass(slots=True, eq=False)
class PendingUpsert:
    """An upsert that is held, from submit until release, and the caller who waits for what becomes of it.

    `deadline` is on the event loop's clock. `route` and `bulk` say which upserts it may share a statement with; one
    that is `alone` shares with none, since it may hold others up.
    """

    upsert: Upsert
    deadline: float
    route: str
    bulk: bool
    outcome: asyncio.Future[Outcome]
    attempts: int = 0
    alone: bool = False

    @property
    def organization_id(self) -> str:
        return self.upsert.organization_id

    @property
    def key(self) -> tuple[str, str]:
        return (self.upsert.organization_id, self.upsert.external_id)

    @property
    def size(self) -> int:
        return self.upsert.size

    def is_wanted(self, now: float) -> bool:
        """Whether somebody waits for it who still has time."""
        return not self.outcome.done() and self.deadline > now
