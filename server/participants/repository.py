"""What the use cases ask of a database and of the writer before it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from server.participants.listing import Listing, Page
from server.participants.model import Outcome, Participant, Retry, Update, Upsert


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


class ReadRepository(Protocol):
    """Finds participants. Every method raises Unavailable when the database cannot be reached."""

    async def get(self, organization_id: str, participant_id: str) -> Participant | None:
        """Returns the organization's participant with that id."""

    async def lookup(self, organization_id: str, external_id: str) -> Participant | None:
        """Returns the organization's participant with that external_id."""

    async def list(self, listing: Listing) -> Page:
        """Returns a page of a list."""


class ChangeRepository(Protocol):
    """Changes participants, each in one commit, and answers with what was committed.

    Every method answers with Retry when another transaction held the participant or had just written it: nothing was
    written, and the change is to be run again. When one is cancelled, nothing of it is written any more once it has
    returned. Every method raises NotFound, and Unavailable when the database cannot be reached.
    """

    async def update(self, update: Update) -> Participant | Retry:
        """Changes what an update says. Raises AlreadyExists, EtagMismatch, and InvalidArgument for too much of it."""

    async def set_enrollment(
        self, organization_id: str, participant_id: str, program_id: str, *, active: bool
    ) -> Participant | Retry:
        """Enrolls a participant in a program, or ends its enrollment."""

    async def delete(self, organization_id: str, participant_id: str, etag: str) -> Retry | None:
        """Erases a participant and all that hangs on it. Raises EtagMismatch."""


class UpsertWriter(Protocol):
    """Takes upserts in and has them written."""

    def submit(
        self,
        upserts: Sequence[Upsert],
        deadline: float,
        *,
        bulk: bool = False,
        keep: Callable[[Outcome], Any] | None = None,
        on_wait: Callable[[], None] | None = None,
    ) -> asyncio.Future[Sequence[Any]]:
        """Queues upserts of one organization, at least one, and returns the future of what becomes of each, in order.

        Each is an upsert of its own; those of one key apply in order. `deadline` is on the event loop's clock, and no
        write begins after it. `bulk` goes behind what is not. `keep` is given each Outcome as soon as it is there, and
        returns what is kept of it until the last is; it raises nothing. `on_wait` is called when one has to wait for
        others of its participant, or for a lock; maybe again. Cancelling the future, and then calling `withdraw`,
        withdraws all that is not being written.
        """

    def withdraw(self) -> None:
        """Stops the statements for which nobody waits any more; to be called after futures were cancelled."""


class Contention(Exception):
    """The statement met a deadlock or waited too long for a lock; nothing was written."""


class Refused(Exception):
    """The database refused a value of some upsert in the statement; nothing was written."""
