"""Takes connections in, and has them shake hands where TLS is spoken, before they are any of HTTP's.

The event loop's own server takes one in each time around: while very many call, newcomers wait behind each other. And
it lets any number shake hands, though each takes memory.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from collections.abc import Callable

# Who shakes hands for longest makes way for the next; most callers do in milliseconds.
MAX_HANDSHAKES = 500
# How long it may take, in seconds.
HANDSHAKE_TIMEOUT = 10.0
# So many are taken in each time around the event loop.
ACCEPTED_AT_ONCE = 100
# How long nobody is accepted where the process may open no more files, in seconds.
PAUSE = 0.1


class Acceptor:
    """Gives the connections to a listener their protocols; with a context, once hands are shaken."""

    def __init__(
        self, listener: socket.socket, context: ssl.SSLContext | None, make_protocol: Callable[[], asyncio.Protocol]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._connect = functools.partial(
            self._loop.connect_accepted_socket,
            make_protocol,
            ssl=context,
            ssl_handshake_timeout=HANDSHAKE_TIMEOUT if context else None,
        )
        # Those that shake hands, the oldest first.
        self._under_way: dict[asyncio.Task[None], None] = {}
        self._accept_on()

    def close(self) -> None:
        """Accepts nobody any more, and ends the handshakes; connections go on."""
        self._loop.remove_reader(self._listener)
        self._listener.close()
        for handshake in self._under_way:
            handshake.cancel()

    async def wait_closed(self) -> None:
        """Returns once the handshakes have ended."""
        if self._under_way:
            await asyncio.wait(self._under_way)

    def _accept_on(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError:
                self._loop.remove_reader(self._listener)
                self._loop.call_later(PAUSE, self._accept_on)
                return
            connection.setblocking(False)
            self._begin(connection)

    def _begin(self, connection: socket.socket) -> None:
        handshake = self._loop.create_task(self._admit(connection))
        self._under_way[handshake] = None
        handshake.add_done_callback(lambda ended: self._under_way.pop(ended, None))
        if len(self._under_way) > MAX_HANDSHAKES:
            oldest = next(iter(self._under_way))
            del self._under_way[oldest]
            oldest.cancel()

    async def _admit(self, connection: socket.socket) -> None:
        try:
            await self._connect(connection)
        except OSError:
            # Of TLS, or of the network, or it took too long: the connection has been closed already.
            connection.close()
