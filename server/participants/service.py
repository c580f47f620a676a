"""The use case: create a participant, or update it if its external_id exists."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from server.errors import FieldViolation, InvalidArgument
from server.participants.model import MAX_TAG_LENGTH, Outcome, Rejected, Upsert, Written
from server.participants.repository import UpsertWriter

Kept = TypeVar("Kept")


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
            outcome: Outcome
            (outcome,) = await self._writer.submit([upsert], deadline, on_wait=on_wait)
        except asyncio.CancelledError:
            self._writer.withdraw()
            raise
        if isinstance(outcome, Rejected):
            raise outcome.error
        return outcome

    async def upsert_all(
        self, upserts: Sequence[Upsert | Kept], deadline: float, keep: Callable[[Outcome], Kept]
    ) -> Sequence[Kept]:
        """Upserts each on its own, and returns in order what `keep` makes of what became of each (see UpsertWriter).

        What is kept already stays so. Upserts of the same participant apply in order.
        """
        submitted = [_normalized(upsert, keep) if isinstance(upsert, Upsert) else upsert for upsert in upserts]
        wanted = [upsert for upsert in submitted if isinstance(upsert, Upsert)]
        kept = iter(await self._write_all(wanted, deadline, keep) if wanted else ())
        return [next(kept) if isinstance(upsert, Upsert) else upsert for upsert in submitted]

    async def _write_all(
        self, upserts: Sequence[Upsert], deadline: float, keep: Callable[[Outcome], Kept]
    ) -> Sequence[Kept]:
        try:
            return await self._writer.submit(upserts, deadline, bulk=True, keep=keep)
        except asyncio.CancelledError:
            self._writer.withdraw()
            raise


def _normalized(upsert: Upsert, keep: Callable[[Outcome], Kept]) -> Upsert | Kept:
    try:
        upsert.tags = normalized_tags(upsert.tags)
    except InvalidArgument as error:
        return keep(Rejected(error))
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
