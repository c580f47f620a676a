"""The use case: create a participant, or update it if its external_id exists; read it back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from server.errors import DeadlineExceeded, FieldViolation, InvalidArgument, NotFound, ServiceError
from server.participants.model import MAX_TAG_LENGTH, Participant, Upsert, UpsertResult
from server.participants.repository import ParticipantRepository, UpsertWriter


class Participants:
    """Upserts and reads the participants of all organizations."""

    def __init__(self, store: ParticipantRepository, writer: UpsertWriter) -> None:
        self._store = store
        self._writer = writer

    async def upsert(self, upsert: Upsert, deadline: float) -> UpsertResult:
        """Creates or updates one participant (contract, section 2).

        `deadline` is on the event loop's clock. Raises InvalidArgument, NotFound for an unknown program, Conflict,
        Overloaded, DeadlineExceeded and Unavailable.
        """
        outcome = self._submit(upsert, deadline, of_batch=False)
        try:
            return await outcome
        except asyncio.CancelledError:
            self._writer.withdraw()
            raise

    async def upsert_all(
        self, upserts: Sequence[Upsert | ServiceError], deadline: float
    ) -> Sequence[UpsertResult | ServiceError]:
        """Upserts each on its own, and returns in order what came of each: an outcome, or what `upsert` would raise.

        What is an error already stays that error. Upserts of the same participant apply in order.
        """
        submitted = [self._submit_or_error(upsert, deadline) for upsert in upserts]
        pending = [outcome for outcome in submitted if isinstance(outcome, asyncio.Future)]
        try:
            # They settle by the statement, so this waits a few times; gather would be called back for each of them.
            for outcome in pending:
                if not outcome.done():
                    await asyncio.wait([outcome])
        except asyncio.CancelledError:
            for outcome in pending:
                outcome.cancel()
            self._writer.withdraw()
            raise
        return [_settled(outcome) for outcome in submitted]

    async def get(self, organization_id: str, participant_id: str, deadline: float) -> Participant:
        """Returns a participant of the organization, or raises NotFound, DeadlineExceeded and Unavailable."""
        try:
            async with asyncio.timeout_at(deadline):
                participant = await self._store.get(organization_id, participant_id)
        except TimeoutError:
            raise DeadlineExceeded from None
        if participant is None:
            raise NotFound("there is no participant with this id", reason="PARTICIPANT_NOT_FOUND")
        return participant

    def _submit(self, upsert: Upsert, deadline: float, *, of_batch: bool) -> asyncio.Future[UpsertResult]:
        if upsert.tags:
            upsert.tags = normalized_tags(upsert.tags)
        return self._writer.submit(upsert, deadline, of_batch=of_batch)

    def _submit_or_error(
        self, upsert: Upsert | ServiceError, deadline: float
    ) -> asyncio.Future[UpsertResult] | ServiceError:
        if isinstance(upsert, ServiceError):
            return upsert
        try:
            return self._submit(upsert, deadline, of_batch=True)
        except ServiceError as error:
            return error


def _settled(outcome: asyncio.Future[UpsertResult] | ServiceError) -> UpsertResult | ServiceError:
    if isinstance(outcome, ServiceError):
        return outcome
    error = outcome.exception()
    if error is None:
        return outcome.result()
    if isinstance(error, ServiceError):
        return error
    raise error


def normalized_tags(tags: Sequence[str]) -> Sequence[str]:
    """Returns the tags in lower case without repeats, the first place kept.

    Lower case can be longer (U+0130 becomes two code points), so a tag may be too long only now.
    """
    text = "".join(tags)
    if text == text.lower() and len(set(tags)) == len(tags):
        return tags
    normalized = list(dict.fromkeys(map(str.lower, tags)))
    if max(map(len, normalized)) > MAX_TAG_LENGTH:
        message = f"must be at most {MAX_TAG_LENGTH} characters in lower case"
        raise InvalidArgument(
            tuple(
                FieldViolation(f"tags[{index}]", "STRING_MAX_LEN", message)
                for index, tag in enumerate(tags)
                if len(tag.lower()) > MAX_TAG_LENGTH
            )
        )
    return normalized
