"""The HTTP server: uvicorn, run inside our own event loop and stopped by us."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from server.certificates import Certificates
from server.config import Address
from server.gateway.accepting import Acceptor
from server.gateway.application import Gateway
from server.gateway.connections import Connections
from server.gateway.protocol import Protocol
from server.sockets import address_of, bound

BACKLOG = 2048
# The kernel keeps up to twice as many bytes of what a connection has sent, and so much is read at once.
RECEIVE_BUFFER_BYTES = 32 << 10
# The same for what a caller does not read. Left to itself the kernel keeps some megabytes for each, and where that is
# too much in all, every connection of the machine is slow.
SEND_BUFFER_BYTES = 128 << 10


class HttpServer(uvicorn.Server):
    """uvicorn without signal handlers of its own: the whole service is stopped as one."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket, certificates: Certificates | None) -> None:
        super().__init__(config)
        self.server_state = self._connections = Connections()
        self._listener = listener
        self._certificates = certificates
        self._context: ssl.SSLContext | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002
        """Listens, in our own way."""
        self._accept()
        self.started = True

    def _accept(self) -> None:
        self._context = self._certificates.context if self._certificates else None
        make_protocol = functools.partial(Protocol, self.config, self._connections, {})
        # The port stays ours when one acceptor follows another.
        acceptor: Any = Acceptor(self._listener.dup(), self._context, make_protocol)
        self.servers = [acceptor]

    async def on_tick(self, counter: int) -> bool:
        """Looks after the connections, and after TLS; called ten times a second."""
        if counter % 5 == 0:
            self._connections.check(asyncio.get_running_loop().time())
        if self._certificates and self._certificates.context is not self._context:
            # What was accepted before goes on as it is.
            before = self.servers
            self._accept()
            before[0].close()
        return await super().on_tick(counter)


@asynccontextmanager
async def serving(
    gateway: Gateway, address: Address, variable: str, *, share_port: bool, certificates: Certificates | None = None
) -> AsyncIterator[tuple[Address, asyncio.Task[None]]]:
    """Serves, and yields the address with the port it got, and the task that serves and must not end by itself.

    In the end it lets requests under way finish. Raises ConfigurationError, which names the variable, where it cannot
    listen. `share_port` lets several processes listen on one port.
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
        timeout_graceful_shutdown=1,
    )
    server = HttpServer(config, listener, certificates)
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield address_of(listener, address), running
    finally:
        server.should_exit = True
        await asyncio.wait([running])
