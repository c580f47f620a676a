"""Takes connections in, and has them shake hands where TLS is spoken, before they are any of HTTP's.

The event loop's own server takes one in each time around, before it has sent anything: while very many call, newcomers
wait behind each other. And it lets any number shake hands, though each takes memory.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from collections.abc import Callable

from server.gateway.waiting import WaitingRoom

# Who shakes hands for longest makes way for the next; most callers do in milliseconds.
MAX_HANDSHAKES = 500
# How long it may take, in seconds.
HANDSHAKE_TIMEOUT = 10.0
# So many are accepted each time around the event loop, and so many taken in, which takes several times as long.
ACCEPTED_AT_ONCE = 200
TAKEN_AT_ONCE = 10
# How long nobody is accepted where the process may open no more files, or too many wait, in seconds.
PAUSE = 0.1
PAUSE_OF_CROWDS = 0.005


class Acceptor:
    """Gives the connections to a listener their protocols; with a context, once hands are shaken."""

    def __init__(
        self,
        listener: socket.socket,
        context: Callable[[], ssl.SSLContext | None],
        make_protocol: Callable[[], asyncio.Protocol],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._context = context
        self._connect = functools.partial(self._loop.connect_accepted_socket, make_protocol)
        self._room = WaitingRoom()
        self._will_take = False
        # Those that shake hands, the oldest first.
        self._under_way: dict[asyncio.Task[None], None] = {}
        self._loop.add_reader(self._room, self._look)
        self._accept_on()

    def check(self, now: float) -> None:
        """Lets go who has sent nothing for too long. `now` is on the event loop's clock."""
        self._room.check(now)

    def close(self) -> None:
        """Accepts nobody any more, and ends the handshakes; connections go on."""
        self._loop.remove_reader(self._listener)
        self._loop.remove_reader(self._room)
        self._listener.close()
        self._room.close()
        for handshake in self._under_way:
            handshake.cancel()

    async def wait_closed(self) -> None:
        """Returns once the handshakes have ended."""
        if self._under_way:
            await asyncio.wait(self._under_way)

    @property
    def _is_closed(self) -> bool:
        return self._listener.fileno() < 0

    def _accept_on(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._listener, self._accept)

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._listener)
        self._loop.call_later(seconds, self._accept_on)

    def _accept(self) -> None:
        now, encrypted = self._loop.time(), self._context() is not None
        for _ in range(ACCEPTED_AT_ONCE):
            if self._room.is_full(now):
                self._pause(PAUSE_OF_CROWDS)
                break
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                break
            except OSError:
                self._room.make_room()
                self._pause(PAUSE)
                break
            self._room.enter(connection, now, encrypted=encrypted)
        self._take_soon()

    def _look(self) -> None:
        self._room.look(encrypted=self._context() is not None)
        self._take_soon()

    def _take_soon(self) -> None:
        if self._room.is_anybody_ready and not self._will_take:
            self._will_take = True
            self._loop.call_soon(self._take)

    def _take(self) -> None:
        self._will_take = False
        if self._is_closed:
            return
        for connection in self._room.take(TAKEN_AT_ONCE):
            connection.setblocking(False)
            self._begin(connection)
        self._take_soon()

    def _begin(self, connection: socket.socket) -> None:
        handshake = self._loop.create_task(self._admit(connection))
        self._under_way[handshake] = None
        handshake.add_done_callback(lambda ended: self._under_way.pop(ended, None))
        if len(self._under_way) > MAX_HANDSHAKES:
            oldest = next(iter(self._under_way))
            del self._under_way[oldest]
            oldest.cancel()

    async def _admit(self, connection: socket.socket) -> None:
        context = self._context()
        timeout = HANDSHAKE_TIMEOUT if context else None
        try:
            await self._connect(connection, ssl=context, ssl_handshake_timeout=timeout)
        except OSError:
            # Of TLS, or of the network, or it took too long: the connection has been closed already.
            connection.close()
