"""Many connections that do the same at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from tests.hostile.grpc_wire import Wire

# Until a connection has been accepted, and what it sent read; in seconds.
GONE_AFTER = 0.005


@contextmanager
def crowd(size: int, connect: Callable[[], Wire], attack: Callable[[Wire], None]) -> Iterator[None]:
    """Opens connections and attacks on all of them at once, and closes them in the end.

    Whoever is cut off is done, and so is who cannot send, or gets nothing, for 2 s. Asserts that something was sent:
    an attack that cannot even begin hurts nobody.
    """
    with ExitStack() as stack:
        wires = [stack.enter_context(connect()) for _ in range(size)]
        threads = [threading.Thread(target=_attack, args=(wire, attack), daemon=True) for wire in wires]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(wire.sent for wire in wires) > 0
        yield


def gone_at_once(data: bytes, *, seconds: float, reset: bool) -> Callable[[Wire], None]:
    """Returns an attack of so many seconds that connects again and again, sends data and is gone before it is answered:
    it closes, or resets, the connection."""

    def attack(wire: Wire) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with suppress(OSError), wire.again() as again:
                if reset:
                    again.reset_when_closed()
                again.send(data)
                time.sleep(GONE_AFTER)

    return attack


def _attack(wire: Wire, attack: Callable[[Wire], None]) -> None:
    wire.socket.settimeout(2)
    with suppress(OSError):
        attack(wire)
