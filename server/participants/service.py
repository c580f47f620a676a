"""The use case: create a participant, or update it if its external_id exists."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from server.errors import FieldViolation, InvalidArgument
from server.participants.model import MAX_TAG_LENGTH, Outcome, Rejected, Upsert, Written
from server.participants.repository import UpsertWriter


class Participants:
    """Upserts the participants of all organizations."""

    def __init__(self, writer: UpsertWriter) -> None:
        self._writer = writer

    async def upsert(self, upsert: Upsert, deadline: float, on_wait: Callable[[], None] | None = None) -> Written:
        """Creates or updates one participant.

        `deadline` is on the event loop's clock; `on_wait` is called when it waits for others who write the participant.
        Raises InvalidArgument, NotFound for an unknown program, Conflict, Overloaded, DeadlineExceeded, Unavailable,
        and Internal for a fault of the service.
        """
        upsert.tags = normalized_tags(upsert.tags)
        try:
            (outcome,) = await self._writer.submit([upsert], deadline, on_wait=on_wait)
        except asyncio.CancelledError:
            self._writer.withdraw()
            raise
        if isinstance(outcome, Rejected):
            raise outcome.error
        return outcome

    async def upsert_all(self, upserts: Sequence[Upsert | Rejected], deadline: float) -> Sequence[Outcome]:
        """Upserts each on its own, and returns in order what became of each.

        What is rejected already stays so. Upserts of the same participant apply in order.
        """
        submitted = [_with_normalized_tags(upsert) for upsert in upserts]
        wanted = [upsert for upsert in submitted if not isinstance(upsert, Rejected)]
        outcomes = iter(await self._write_all(wanted, deadline) if wanted else ())
        return [upsert if isinstance(upsert, Rejected) else next(outcomes) for upsert in submitted]

    async def _write_all(self, upserts: Sequence[Upsert], deadline: float) -> Sequence[Outcome]:
        try:
            return await self._writer.submit(upserts, deadline, bulk=True)
        except asyncio.CancelledError:
            self._writer.withdraw()
            raise


def _with_normalized_tags(upsert: Upsert | Rejected) -> Upsert | Rejected:
    if isinstance(upsert, Rejected):
        return upsert
    try:
        upsert.tags = normalized_tags(upsert.tags)
    except InvalidArgument as error:
        return Rejected(error)
    return upsert


def normalized_tags(tags: Sequence[str], field: str = "tags") -> Sequence[str]:
    """Returns the tags of a field in lower case without repeats, the first place kept.

    Lower case can be longer (U+0130 becomes two code points), so a tag may be too long only now.
    """
    if not tags:
        return tags
    text = "".join(tags)
    if text == text.lower() and len(set(tags)) == len(tags):
        return tags
    normalized = list(dict.fromkeys(map(str.lower, tags)))
    if max(map(len, normalized)) > MAX_TAG_LENGTH:
        message = f"must be at most {MAX_TAG_LENGTH} characters in lower case"
        raise InvalidArgument(
            tuple(
                FieldViolation(f"{field}[{index}]", "STRING_MAX_LEN", message)
                for index, tag in enumerate(tags)
                if len(tag.lower()) > MAX_TAG_LENGTH
            )
        )
    return normalized
