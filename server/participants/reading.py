"""The use case: find participants, by either of their ids or in a list."""

from __future__ import annotations

from server.deadline import within
from server.errors import NotFound
from server.participants.listing import Listing, Page
from server.participants.model import Participant
from server.participants.repository import ReadRepository


class Reading:
    """Reads the participants of all organizations. Deadlines are on the event loop's clock.

    Every method raises DeadlineExceeded and Unavailable.
    """

    def __init__(self, repository: ReadRepository) -> None:
        self._repository = repository

    async def get(self, organization_id: str, participant_id: str, deadline: float) -> Participant:
        """Returns a participant of the organization by its id, or raises NotFound."""
        async with within(deadline):
            participant = await self._repository.get(organization_id, participant_id)
        if participant is None:
            raise NotFound("there is no participant with this id", reason="PARTICIPANT_NOT_FOUND")
        return participant

    async def lookup(self, organization_id: str, external_id: str, deadline: float) -> Participant:
        """Returns a participant of the organization by its external_id, or raises NotFound."""
        async with within(deadline):
            participant = await self._repository.lookup(organization_id, external_id)
        if participant is None:
            raise NotFound("there is no participant with this external_id", reason="PARTICIPANT_NOT_FOUND")
        return participant

    async def list(self, listing: Listing, deadline: float) -> Page:
        """Returns a page of a list."""
        async with within(deadline):
            return await self._repository.list(listing)
