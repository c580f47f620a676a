"""What the use case asks of a database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from server.errors import ServiceError
from server.participants.model import Outcome, Participant, Upsert


class ParticipantStore(Protocol):
    """Keeps participants. Every method raises Unavailable when the database cannot be reached."""

    async def upsert(self, upserts: Sequence[Upsert]) -> Sequence[Outcome | ServiceError | None]:
        """Writes upserts with different keys in one commit, and returns what came of each, in order.

        None means that another transaction holds or has just written the same participant: nothing was written, and
        the upsert is to be run again.

        Raises Contention when nothing was written because of other transactions, and Refused when nothing was
        written because the database does not take some value of some upsert.
        """

    async def get(self, organization_id: str, participant_id: str) -> Participant | None:
        """Returns the organization's participant with that id."""


class Contention(Exception):
    """The statement met a deadlock or waited too long for a lock; nothing was written."""


class Refused(Exception):
    """The database refused a value of some upsert in the statement; nothing was written."""
