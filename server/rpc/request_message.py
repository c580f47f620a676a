"""Takes in the one message of a call: bounded in size, in time, and in how many may be arriving at once."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from server.api.buffers import Buffers, Room
from server.errors import DeadlineExceeded, FieldViolation, InvalidArgument
from server.rpc.contexts import Context

# gRPC's own default, and more than a participant can hold.
MAX_REQUEST_BYTES = 4 << 20
# What grpcio reads at the most. It refuses what is larger in its own words, so a little more is read to refuse in ours.
READ_BYTES = 5 << 20
# How many calls a connection may have at once, and what each may send before it is taken in and its message asked for.
MAX_CALLS, UNASKED_BYTES = 100, 64 << 10
# How long a message may take to arrive, and how often those that are on their way are looked at; in seconds.
RECEIVE_TIMEOUT = 10.0
LOOK_EVERY = 0.25


class Receiver:
    """Reads the messages of calls.

    One look at all that are on their way takes the place of a timer for each, which would cost every call more than
    to read its message does. So a message that does not arrive is given up at most LOOK_EVERY late.
    """

    def __init__(self, buffers: Buffers) -> None:
        self.buffers = buffers
        self._loop = asyncio.get_running_loop()
        # By the call's task, until when its message may arrive; minus infinity for one that was given up.
        self._arriving: dict[asyncio.Task[Any], float] = {}
        self._looks = False

    async def receive(
        self, context: Context, task: asyncio.Task[Any], room: Room, organization_id: str, deadline: float
    ) -> bytes:
        """Returns the call's one message as it came, for which it takes room. `deadline` is on the event loop's clock.

        Raises InvalidArgument, DeadlineExceeded and Overloaded.
        """
        until = min(deadline, self._loop.time() + RECEIVE_TIMEOUT)
        # How long the message is shows when it is there.
        if not room.try_acquire(organization_id, READ_BYTES):
            await room.acquire(organization_id, READ_BYTES, until)
        self._arriving[task] = until
        if not self._looks:
            self._looks = True
            self._loop.call_later(LOOK_EVERY, self._look)
        try:
            # Whether there is a second one is not asked: that costs a tenth of a call, and nobody reads it.
            message: object = await context.read()
        except asyncio.CancelledError:
            if self._arriving[task] == -math.inf and task.uncancel() == 0:
                raise DeadlineExceeded from None
            raise
        finally:
            del self._arriving[task]
        if not isinstance(message, bytes):
            raise malformed("the call ended without a message")
        return message

    def _look(self) -> None:
        """Gives up the messages that took too long."""
        now = self._loop.time()
        for task, until in self._arriving.items():
            if -math.inf < until <= now:
                self._arriving[task] = -math.inf
                task.cancel()
        self._looks = bool(self._arriving)
        if self._looks:
            self._loop.call_later(LOOK_EVERY, self._look)


def malformed(message: str) -> InvalidArgument:
    """Returns what a call is answered whose request is no message."""
    violation = FieldViolation("", "MALFORMED", message)
    return InvalidArgument((violation,), message, reason="MALFORMED_REQUEST")
