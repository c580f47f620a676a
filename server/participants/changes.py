"""The use case: change a participant that exists, or erase it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence, Set
from typing import TypeVar

from server.deadline import within
from server.errors import Conflict, FieldViolation, InvalidArgument
from server.participants.model import RETRY, Participant, Retry, Update
from server.participants.repository import ChangeRepository, Contention
from server.participants.retries import MAX_RETRIES, pause_before
from server.participants.service import normalized_tags

T = TypeVar("T")


class Changes:
    """Changes the participants of all organizations. Deadlines are on the event loop's clock.

    A change does not begin after its deadline, nor when its caller has gone. Every method raises NotFound,
    DeadlineExceeded, Unavailable, and Conflict when other transactions keep the participant locked.
    """

    def __init__(self, repository: ChangeRepository) -> None:
        self._repository = repository

    async def update(self, update: Update, deadline: float) -> Participant:
        """Changes a participant. Raises InvalidArgument, AlreadyExists and EtagMismatch too."""
        update.tags = normalized_tags(update.tags)
        update.add_tags = normalized_tags(update.add_tags, "add_tags")
        update.remove_tags = [tag.lower() for tag in update.remove_tags]
        _refuse_contradictions(update)
        return await _run(lambda: self._repository.update(update), deadline)

    async def set_enrollment(
        self, organization_id: str, participant_id: str, program_id: str, deadline: float, *, active: bool
    ) -> Participant:
        """Enrolls a participant in a program, or ends its enrollment."""
        return await _run(
            lambda: self._repository.set_enrollment(organization_id, participant_id, program_id, active=active),
            deadline,
        )

    async def delete(self, organization_id: str, participant_id: str, etag: str, deadline: float) -> None:
        """Erases a participant and all that hangs on it. Raises EtagMismatch too."""
        await _run(lambda: self._repository.delete(organization_id, participant_id, etag), deadline)


def _refuse_contradictions(update: Update) -> None:
    added = {*update.tags, *update.add_tags}
    violations = [
        *_repeated("remove_attributes", update.remove_attributes, update.attributes.keys()),
        *_repeated("remove_tags", update.remove_tags, added),
    ]
    if violations:
        raise InvalidArgument(tuple(violations))


def _repeated(field: str, removed: Sequence[str], added: Set[str]) -> list[FieldViolation]:
    message = "cannot be set and removed at once"
    return [
        FieldViolation(f"{field}[{index}]", "SET_AND_REMOVED", message)
        for index, item in enumerate(removed)
        if item in added
    ]


async def _run(change: Callable[[], Awaitable[T | Retry]], deadline: float) -> T:
    """Runs a change until it wins over other transactions."""
    async with within(deadline):
        for retry in range(1, MAX_RETRIES + 1):
            outcome = await _attempted(change)
            if not isinstance(outcome, Retry):
                return outcome
            await asyncio.sleep(pause_before(retry))
    raise Conflict("the participant is locked by another transaction; retry")


async def _attempted(change: Callable[[], Awaitable[T | Retry]]) -> T | Retry:
    try:
        return await change()
    except Contention:
        return RETRY
