"""What the use case asks of a database."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from server.errors import ServiceError
from server.participants.model import Participant, Upsert, UpsertResult


class ParticipantRepository(Protocol):
    """Keeps participants. Every method raises Unavailable when the database cannot be reached."""

    async def upsert(self, upserts: Sequence[Upsert]) -> Sequence[UpsertResult | ServiceError | None]:
        """Writes upserts with different keys in one commit, and returns what came of each, in order.

        None means that another transaction holds or has just written the same participant: nothing was written, and
        the upsert is to be run again.

        Raises Contention when nothing was written because of other transactions, and Refused when nothing was
        written because the database does not take some value of some upsert.
        """

    async def get(self, organization_id: str, participant_id: str) -> Participant | None:
        """Returns the organization's participant with that id."""


class UpsertWriter(Protocol):
    """Takes upserts in and has them written."""

    def submit(self, upsert: Upsert, deadline: float, *, of_batch: bool = False) -> asyncio.Future[UpsertResult]:
        """Queues one upsert, and returns the future of what comes of it once it is committed.

        `deadline` is on the event loop's clock, and a write does not begin after it. The future fails with what the
        repository says of this upsert, or with DeadlineExceeded or Conflict; cancelling it withdraws the upsert
        unless it is being written. Raises Overloaded, at once, when too much is waiting.
        """

    def withdraw(self) -> None:
        """Stops the statements for which nobody waits any more; to be called after futures were settled."""


class Contention(Exception):
    """The statement met a deadlock or waited too long for a lock; nothing was written."""


class Refused(Exception):
    """The database refused a value of some upsert in the statement; nothing was written."""
