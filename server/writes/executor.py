"""Writes a group of upserts, and finds out what became of each of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from server.errors import FieldViolation, Internal, InvalidArgument, ServiceError
from server.participants.model import RETRY, Outcome, Rejected, Retry, Upsert
from server.participants.repository import Contention, ParticipantRepository, Refused

logger = logging.getLogger(__name__)

# The upsert is to share no statement any more: it may be what others wait for.
RETRY_ALONE = Retry()

Outcomes = Sequence[Outcome | Retry]


class Executor:
    """Has the repository write groups; what it says of a group as a whole it finds out for each upsert.

    Only what the database says of a value, or of contention, is of some upserts and not of others, and has the group
    written again in parts. Every other error is the whole group's, once.
    """

    def __init__(self, repository: ParticipantRepository) -> None:
        self._repository = repository

    async def execute(self, upserts: Sequence[Upsert]) -> Outcomes:
        """Returns what became of each upsert, in order; nothing but a cancellation is raised."""
        try:
            return await self._write(upserts)
        except ServiceError as error:
            return [Rejected(error)] * len(upserts)
        except Exception:
            logger.exception("a statement failed")
            return [Rejected(Internal())] * len(upserts)

    async def _write(self, upserts: Sequence[Upsert]) -> Outcomes:
        try:
            return await self._repository.upsert(upserts)
        except Refused:
            return await self._isolate(upserts)
        except Contention:
            return await self._without_new(upserts)

    async def _isolate(self, upserts: Sequence[Upsert]) -> Outcomes:
        """Writes a group that was refused as two halves, until what is refused is alone."""
        if len(upserts) == 1:
            violation = FieldViolation("external_id", "VALUE_REFUSED", "the database refuses a value of this upsert")
            return [Rejected(InvalidArgument((violation,)))]
        middle = len(upserts) // 2
        return [*await self.execute(upserts[:middle]), *await self.execute(upserts[middle:])]

    async def _without_new(self, upserts: Sequence[Upsert]) -> Outcomes:
        """Writes what exists of a group that waited too long for a lock.

        Rows are never waited for, but a new key is while another transaction is writing it. Which one that is the
        database does not say, so each new participant is then written alone, and holds nobody else up.
        """
        if len(upserts) == 1:
            return [RETRY]
        try:
            outcomes = await self._repository.upsert(upserts, insert=False)
        except (Contention, Refused):
            return [RETRY] * len(upserts)
        return [RETRY_ALONE if isinstance(outcome, Retry) else outcome for outcome in outcomes]
