"""Many connections that do the same at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from tests.hostile.grpc_wire import Wire


@contextmanager
def crowd(size: int, connect: Callable[[], Wire], attack: Callable[[Wire], None]) -> Iterator[None]:
    """Opens connections and attacks on all of them at once, and closes them in the end.

    Whoever is cut off is done, and so is who cannot send, or gets nothing, for 2 s.
    """
    with ExitStack() as stack:
        wires = [stack.enter_context(connect()) for _ in range(size)]
        threads = [threading.Thread(target=_attack, args=(wire, attack), daemon=True) for wire in wires]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        yield


def _attack(wire: Wire, attack: Callable[[Wire], None]) -> None:
    wire.socket.settimeout(2)
    with suppress(OSError):
        attack(wire)
