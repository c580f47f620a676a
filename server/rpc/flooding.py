"""Callers that send what nobody asked for, and take memory or the processor from the others.

What calls under way hold is counted, and bounded. Outside of calls grpcio sets no limits that help: until a client has
acknowledged our limit, which is when it likes to, headers may have 16 MiB, and whatever comes is read without end by
the one thread that reads for everybody. But messages beyond the first 64 KiB are not sent before a call is under way
and reads them (RFC 9113, section 5.2). So whoever sends more, and has no call with a good key meanwhile, floods.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Iterable

from server.operations.memory import can_tell, resident_bytes
from server.rpc.calls import Calls
from server.rpc.connections import Connection, connections

logger = logging.getLogger(__name__)

# How often it is looked at memory, which can grow by a gigabyte a second, and how often at the processor; in seconds.
LOOK_EVERY, LOOK_AT_PROCESSOR_EVERY = 0.1, 0.3
# Below this share of a processor nobody takes it from the others.
BUSY = 0.3
# What may be sent from one look to the next without a call, in bytes.
FREE_BYTES = 256 << 10
# From this much memory on, in bytes, everybody has to go who has sent LEAST_BYTES and LEAST_RATIO times as much as it
# was sent, and has no call: who is between two calls loses nothing. From the second on it is whoever has sent most.
SHORT, CRITICAL = 208 << 20, 420 << 20
LEAST_BYTES, LEAST_RATIO = 64 << 10, 16
# Who has sent less is not the one.
LARGE_BYTES = 1 << 20
# How often garbage is collected while memory is short, in seconds.
COLLECT_EVERY = 0.2


async def cut_off_floods_forever(port: int, calls: Calls) -> None:
    """Cuts off callers to a port of this process that flood it. On systems other than Linux it waits."""
    if not can_tell():
        await asyncio.Event().wait()
    watch = _Watch(port, calls)
    stopped = threading.Event()
    try:
        # In a thread, for the event loop may be busy when it matters.
        await asyncio.to_thread(watch.look_until, stopped)
    finally:
        stopped.set()


class _Watch:
    """Compares, while the processor is busy or memory is short, what connections have sent with the calls they made."""

    def __init__(self, port: int, calls: Calls) -> None:
        self._port = port
        self._calls = calls
        self._looked = time.monotonic()
        self._worked = time.process_time()
        # By peer port, how much had been received at the last look; None where that did not look at it.
        self._before: dict[int, int] | None = None
        self._collect_at = 0.0

    def look_until(self, stopped: threading.Event) -> None:
        """Looks again and again."""
        while not stopped.wait(LOOK_EVERY):
            self._look()

    def _look(self) -> None:
        resident = resident_bytes()
        is_short = resident > SHORT
        if not is_short and time.monotonic() < self._looked + LOOK_AT_PROCESSOR_EVERY:
            return
        is_busy = self._is_busy()
        known = self._calls.known_ports(watch=is_busy or is_short)
        unwelcome = self._calls.unwelcome_ports()
        if not (is_busy or is_short or unwelcome):
            self._before = None
            return
        found = list(connections(self._port))
        suspects = [each for each in found if self._sent_much(each, is_short=is_short)]
        self._before = {each.peer_port: each.received for each in found}
        cut = _close(each for each in found if each.peer_port in unwelcome)
        if known is not None:
            cut += _close(each for each in suspects if each.peer_port not in known)
        if is_short:
            self._collect()
        if not cut and resident > CRITICAL:
            large = [each for each in found if each.received > LARGE_BYTES]
            cut = _close(sorted(large, key=lambda each: each.received)[-1:])
        if cut:
            logger.warning("connections are cut off that send more than calls with good keys take: %d", cut)

    def _sent_much(self, connection: Connection, *, is_short: bool) -> bool:
        if is_short and connection.received > max(LEAST_BYTES, LEAST_RATIO * connection.sent):
            return True
        if self._before is None:
            return False
        return connection.received - self._before.get(connection.peer_port, 0) > FREE_BYTES

    def _collect(self) -> None:
        """Collects what is in cycles, as grpcio leaves the metadata of every call."""
        if time.monotonic() > self._collect_at:
            gc.collect()
            self._collect_at = time.monotonic() + COLLECT_EVERY

    def _is_busy(self) -> bool:
        looked, worked = time.monotonic(), time.process_time()
        share = (worked - self._worked) / (looked - self._looked)
        self._looked, self._worked = looked, worked
        return share > BUSY


def _close(found: Iterable[Connection]) -> int:
    return sum(each.close() for each in found)
