"""The answer to a batch, which may be so large that it is never to be held twice."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
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


class BatchAnswer:
    """The message in pieces, each of which is the message with some of the results: one behind the other they are the
    whole on the wire. `room` is held until whoever sends the answer releases it."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.size = 0
        self._pieces: deque[bytes] = deque()

    def add(self, piece: messages.BatchCreateParticipantsResponse) -> None:
        """Adds results."""
        data = piece.SerializeToString()
        self.size += len(data)
        self._pieces.append(data)

    async def joined(self) -> bytes:
        """Returns the whole, and forgets each piece on the way. Others have the event loop between large ones."""
        if len(self._pieces) == 1:
            return self._pieces.popleft()
        whole = BytesIO()
        while self._pieces:
            piece = self._pieces.popleft()
            whole.write(piece)
            if len(piece) > LARGE_BYTES:
                await asyncio.sleep(0)
        # Not a copy.
        return whole.getvalue()

    def whole(self) -> messages.BatchCreateParticipantsResponse:
        """Returns the message; for one that is not large."""
        return messages.BatchCreateParticipantsResponse.FromString(b"".join(self._pieces))

    def messages(self) -> Iterator[messages.BatchCreateParticipantsResponse]:
        """Yields the pieces, and forgets each."""
        while self._pieces:
            yield messages.BatchCreateParticipantsResponse.FromString(self._pieces.popleft())


def room_of(request: messages.BatchCreateParticipantsRequest) -> int:
    """Returns how many bytes the answer to a request can have."""
    is_basic = request.view == messages.BatchCreateParticipantsRequest.BASIC
    return max(1, len(request.requests)) * (MAX_BASIC_BYTES if is_basic else MAX_FULL_BYTES)
