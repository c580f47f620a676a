"""The use case: change a participant that exists, or erase it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence, Set
from typing import TypeVar

from server.deadline import within
from server.errors import Conflict, FieldViolation, InvalidArgument
from server.participants.model import RETRY, Participant, Retry, Update
from server.participants.repository import ChangeRepository, Contention
from server.participants.service import normalized_tags

# A change whose participant another transaction holds runs again after a pause, this often at the most; in seconds.
RETRY_PAUSE = 0.005
MAX_RETRY_PAUSE = 0.1
MAX_RETRIES = 60

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
        for attempt in range(MAX_RETRIES):
            outcome = await _attempted(change)
            if not isinstance(outcome, Retry):
                return outcome
            # At random, so that those who lost together do not lose together again.
            await asyncio.sleep(random.uniform(0, min(RETRY_PAUSE * (attempt + 1), MAX_RETRY_PAUSE)))  # noqa: S311
    raise Conflict("the participant is locked by another transaction; retry")


async def _attempted(change: Callable[[], Awaitable[T | Retry]]) -> T | Retry:
    try:
        return await change()
    except Contention:
        return RETRY
