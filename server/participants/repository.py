"""What the use cases ask of a database and of the writer before it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from server.participants.model import Outcome, Participant, Retry, Upsert


class ParticipantRepository(Protocol):
    """Keeps participants. Every method raises Unavailable when the database cannot be reached."""

    def route(self, upsert: Upsert) -> str:
        """Returns which upserts this one may share a statement with: those of the same route."""

    async def upsert(self, upserts: Sequence[Upsert], *, insert: bool = True) -> Sequence[Outcome | Retry]:
        """Writes upserts of one route, with different keys, in one commit, and returns what became of each, in order.

        Without `insert` those whose participant does not exist are answered with Retry. When it is cancelled, nothing
        of it is written any more once it has returned. Raises Contention when nothing was written because of other
        transactions, and Refused when nothing was written because the database does not take some value of some upsert.
        """

    async def get(self, organization_id: str, participant_id: str) -> Participant | None:
        """Returns the organization's participant with that id."""


class UpsertWriter(Protocol):
    """Takes upserts in and has them written."""

    def submit(self, upsert: Upsert, deadline: float, *, bulk: bool = False) -> asyncio.Future[Outcome]:
        """Queues one upsert, and returns the future of what becomes of it.

        `deadline` is on the event loop's clock, and a write does not begin after it. `bulk` goes behind what is not.
        Cancelling the future, and then calling `withdraw`, withdraws the upsert unless it is being written.
        """

    def withdraw(self) -> None:
        """Stops the statements for which nobody waits any more; to be called after futures were cancelled."""


class Contention(Exception):
    """The statement met a deadlock or waited too long for a lock; nothing was written."""


class Refused(Exception):
    """The database refused a value of some upsert in the statement; nothing was written."""
