"""Room for messages that are on their way in and answers that are on their way out."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from server.errors import Overloaded

# With everything else that the service holds, below the 512 MiB that it may take.
MAX_BYTES = 192 << 20


class Buffers:
    """Counts the bytes that calls hold or may come to hold. An organization may hold as much as is left free.

    So one that lets messages trickle in, or its answers lie, is short of room itself, and every other one finds some.
    """

    def __init__(self, max_bytes: int = MAX_BYTES, what: str = "messages") -> None:
        self._max = self._free = max_bytes
        self._what = what
        self._held: dict[str, int] = {}
        # By organization, in the order in which they came. None of these is empty.
        self._waiting: OrderedDict[str, deque[tuple[int, asyncio.Future[None]]]] = OrderedDict()

    @property
    def held(self) -> int:
        """How many bytes calls hold, or may come to hold."""
        return self._max - self._free

    def try_acquire(self, organization_id: str, size: int) -> bool:
        """Takes room where there is some for the organization, and tells whether there was."""
        held = self._held.get(organization_id, 0)
        if size > self._free - held:
            return False
        self._free -= size
        self._held[organization_id] = held + size
        return True

    async def acquire(self, organization_id: str, size: int, deadline: float) -> None:
        """Waits for room. `deadline` is on the event loop's clock; after it, raises Overloaded."""
        room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (size, room)
        self._waiting.setdefault(organization_id, deque()).append(entry)
        try:
            async with asyncio.timeout_at(deadline):
                await room
        except TimeoutError:
            self._withdraw(organization_id, entry)
            message = f"too many {self._what} of this organization are on their way"
            raise Overloaded(message, reason="BUFFERS_FULL") from None
        except asyncio.CancelledError:
            self._withdraw(organization_id, entry)
            raise

    def change(self, organization_id: str, size: int) -> None:
        """Counts that an organization holds so much more, whether or not there is room for it, or less."""
        self._free -= size
        held = self._held.get(organization_id, 0) + size
        if held:
            self._held[organization_id] = held
        else:
            del self._held[organization_id]
        if size < 0 and self._waiting:
            self._let_in()

    @contextmanager
    def changed(self, organization_id: str, size: int) -> Iterator[None]:
        """Counts it like `change` for as long as a block takes, and also where that fails no longer."""
        self.change(organization_id, size)
        try:
            yield
        finally:
            self.change(organization_id, -size)

    def release(self, organization_id: str, size: int) -> None:
        """Counts that an organization holds so much less."""
        self.change(organization_id, -size)

    def _let_in(self) -> None:
        for organization_id, queue in list(self._waiting.items()):
            while queue:
                size, room = queue[0]
                # Whoever has given up may not have come round to withdraw.
                if not room.cancelled():
                    if not self.try_acquire(organization_id, size):
                        break
                    room.set_result(None)
                    # The next time others come first.
                    self._waiting.move_to_end(organization_id)
                queue.popleft()
            if not queue:
                del self._waiting[organization_id]

    def _withdraw(self, organization_id: str, entry: tuple[int, asyncio.Future[None]]) -> None:
        size, room = entry
        if not room.cancelled():
            # It was let in at the moment at which it gave up.
            self.release(organization_id, size)
            return
        queue = self._waiting.get(organization_id)
        if queue is not None and entry in queue:
            queue.remove(entry)
            if not queue:
                del self._waiting[organization_id]


class Room:
    """What one call holds of the buffers."""

    __slots__ = ("_buffers", "_organization_id", "_size")

    def __init__(self, buffers: Buffers) -> None:
        self._buffers = buffers
        self._organization_id = ""
        self._size = 0

    def try_acquire(self, organization_id: str, size: int) -> bool:
        """Takes room where there is some, and tells whether there was."""
        if not self._buffers.try_acquire(organization_id, size):
            return False
        self._organization_id, self._size = organization_id, size
        return True

    async def acquire(self, organization_id: str, size: int, deadline: float) -> None:
        """Takes room, once there is some. Raises Overloaded where there is none by the deadline."""
        if size and not self.try_acquire(organization_id, size):
            await self._buffers.acquire(organization_id, size, deadline)
            self._organization_id, self._size = organization_id, size

    def resize(self, size: int) -> None:
        """Holds more, whether or not there is room for it, or less."""
        self._buffers.change(self._organization_id, size - self._size)
        self._size = size

    def resized(self, size: int) -> AbstractContextManager[None]:
        """Holds more, whether or not there is room for it, or less, and afterwards as much as before."""
        return self._buffers.changed(self._organization_id, size - self._size)

    def release(self) -> None:
        """Holds nothing any more."""
        if self._size:
            self._buffers.release(self._organization_id, self._size)
            self._size = 0
