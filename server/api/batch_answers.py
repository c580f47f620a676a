"""The answer to a batch, which may be so large that it is never to be held twice."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from io import BytesIO

from participants.v1 import participant_service_pb2 as messages

from server.api.buffers import Room
from server.api.stints import LARGE_BYTES
from server.participants.model import (
    MAX_ATTRIBUTE_BYTES,
    MAX_ATTRIBUTES,
    MAX_PROGRAMS,
    MAX_TAG_BYTES,
    MAX_TAGS,
)

# What the result of an item takes at the most: what a participant may hold, 8 bytes more for each attribute and 3 for
# each tag, 38 for each program, and what is left for its other fields but for what is earned; and where only names are
# asked for, what may be wrong with it.
MAX_FULL_BYTES = MAX_ATTRIBUTE_BYTES + 8 * MAX_ATTRIBUTES + MAX_TAG_BYTES + 3 * MAX_TAGS + 38 * MAX_PROGRAMS + 5_632
MAX_BASIC_BYTES = 6 << 10
# Others have the event loop each time so many bytes, or one result, have been joined or encoded.
PART_BYTES = 256 << 10


class BatchAnswer:
    """The message in pieces, each of which is the message with one of the results: one behind the other they are the
    whole on the wire. `room` is held until whoever sends the answer releases it."""

    def __init__(self, pieces: Iterable[bytes], room: Room) -> None:
        self._pieces = deque(pieces)
        self.size = sum(map(len, self._pieces))
        self.room = room

    async def joined(self) -> bytes:
        """Returns the whole, and forgets each piece on the way; others have the event loop meanwhile."""
        if self.size <= LARGE_BYTES:
            return b"".join(self._pieces)
        whole = BytesIO()
        while self._pieces:
            whole.write(self._next())
            await asyncio.sleep(0)
        # Not a copy.
        return whole.getvalue()

    def whole(self) -> messages.BatchCreateParticipantsResponse:
        """Returns the message; for one that is not large."""
        return messages.BatchCreateParticipantsResponse.FromString(b"".join(self._pieces))

    def messages(self) -> Iterator[messages.BatchCreateParticipantsResponse]:
        """Yields the message in parts that are not large, and forgets each piece."""
        while self._pieces:
            yield messages.BatchCreateParticipantsResponse.FromString(self._next())

    def _next(self) -> bytes:
        """Forgets some pieces, and returns them as one."""
        some, size = [], 0
        while self._pieces and size < PART_BYTES:
            some.append(self._pieces.popleft())
            size += len(some[-1])
        return b"".join(some)


def room_of(request: messages.BatchCreateParticipantsRequest) -> int:
    """Returns how many bytes the answer to a request can have."""
    is_basic = request.view == messages.BatchCreateParticipantsRequest.BASIC
    return max(1, len(request.requests)) * (MAX_BASIC_BYTES if is_basic else MAX_FULL_BYTES)
