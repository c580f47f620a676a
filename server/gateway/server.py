"""The HTTP server: uvicorn, run inside our own event loop and stopped by us."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.api.call import request_id_from
from server.config import Address
from server.gateway.application import Gateway
from server.gateway.http import HttpError
from server.sockets import address_of, bound

BACKLOG = 2048


class Protocol(HttpToolsProtocol):
    """uvicorn's HTTP, except that what is not HTTP at all is refused in the shape of all our errors."""

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  # uvicorn's words are not ours
        answer = HttpError(400, "bad_request", "the request is not HTTP/1.1").answer
        headers = {**answer.all_headers(request_id_from({})), "connection": "close"}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.transport.write(f"HTTP/1.1 400 Bad Request\r\n{head}\r\n".encode() + answer.body)
        self.transport.close()


class HttpServer(uvicorn.Server):
    """uvicorn without signal handlers of its own: the whole service is stopped as one."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def serving(
    gateway: Gateway, address: Address, *, share_port: bool
) -> AsyncIterator[tuple[Address, asyncio.Task[None]]]:
    """Serves, and yields the address with the port it got, and the task that serves and must not end by itself.

    In the end it lets requests under way finish. Raises ConfigurationError where it cannot listen. `share_port` lets
    several processes listen on one port.
    """
    listener = bound(address, "PARTICIPANTS_HTTP_ADDRESS", share=share_port)
    listener.listen(BACKLOG)
    listener.setblocking(False)
    server = HttpServer(
        uvicorn.Config(
            gateway,
            http=Protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=1,
        )
    )
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield address_of(listener, address), running
    finally:
        server.should_exit = True
        await asyncio.wait([running])
