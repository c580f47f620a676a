"""The HTTP server: uvicorn, run inside our own event loop and stopped by us."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import uvicorn

from server.certificates import Certificates
from server.config import Address
from server.gateway.accepting import Acceptor
from server.gateway.application import Gateway
from server.gateway.connections import Connections
from server.gateway.protocol import Protocol
from server.gateway.stopping import stop
from server.sockets import address_of, bound

# As many as the system lets wait to be accepted.
BACKLOG = 1 << 16
# The kernel keeps up to twice as many bytes of what a connection has sent, and so much is read at once.
RECEIVE_BUFFER_BYTES = 32 << 10
# The same for what a caller does not read. Left to itself the kernel keeps some megabytes for each, and where that is
# too much in all, every connection of the machine is slow.
SEND_BUFFER_BYTES = 128 << 10


class HttpServer(uvicorn.Server):
    """uvicorn without signal handlers of its own: the whole service is stopped as one."""

    def __init__(
        self,
        config: uvicorn.Config,
        listener: socket.socket,
        certificates: Certificates | None,
        hurry: asyncio.Event,
    ) -> None:
        super().__init__(config)
        self.server_state = self._connections = Connections()
        self._listener = listener
        self._certificates = certificates
        self._hurry = hurry

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002
        """Listens, in our own way."""
        make_protocol = functools.partial(Protocol, self.config, self._connections, {})
        self._acceptor = Acceptor(self._listener.dup(), self._context, make_protocol)
        self.servers = [cast("Any", self._acceptor)]
        self.started = True

    def _context(self) -> ssl.SSLContext | None:
        # It is another one where the files have changed. Who was taken in before goes on as it is.
        return self._certificates.context if self._certificates else None

    async def on_tick(self, counter: int) -> bool:
        """Looks after the connections; called ten times a second."""
        if counter % 5 == 0:
            now = asyncio.get_running_loop().time()
            self._acceptor.check(now)
            self._connections.check(now)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stops, in our own way."""
        self._acceptor.close()
        for each in sockets or ():
            each.close()
        await stop(self._connections, self._hurry)
        await self._acceptor.wait_closed()


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that listens. `running` serves and must not end by itself; `stop` has it begin to stop."""

    address: Address
    running: asyncio.Task[None]
    stop: Callable[[], None]


@asynccontextmanager
async def serving(
    gateway: Gateway,
    address: Address,
    variable: str,
    hurry: asyncio.Event,
    *,
    share_port: bool,
    certificates: Certificates | None = None,
) -> AsyncIterator[Serving]:
    """Serves, and yields the server, with the port it got.

    In the end it lets requests under way finish, unless it is to hurry. Raises ConfigurationError, which names the
    variable, where it cannot listen. `share_port` lets several processes listen on one port.
    """
    listener = bound(address, variable, share=share_port)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    listener.listen(BACKLOG)
    listener.setblocking(False)
    config = uvicorn.Config(
        gateway,
        http=Protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        # Who calls is whoever is connected: what a header says of that, anybody may write.
        proxy_headers=False,
    )
    server = HttpServer(config, listener, certificates, hurry)
    running = asyncio.create_task(server.serve(sockets=[listener]))

    def stop_serving() -> None:
        server.should_exit = True

    try:
        yield Serving(address_of(listener, address), running, stop_serving)
    finally:
        stop_serving()
        await asyncio.wait([running])
