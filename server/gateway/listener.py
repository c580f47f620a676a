"""The HTTP server: uvicorn, run inside our own event loop and stopped by us."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from server.config import Address, ConfigurationError
from server.gateway.application import Gateway
from server.gateway.http import HttpError
from server.rpc.pipeline import request_id_from

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


def http_server(gateway: Gateway) -> HttpServer:
    """Returns a server that listens nowhere yet."""
    return HttpServer(
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


def listen(address: Address, *, share_port: bool) -> socket.socket:
    """Binds a socket, or raises ConfigurationError. `share_port` lets several processes listen on one port."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((address.host, address.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"cannot listen on {address}: {error.strerror}; set PARTICIPANTS_HTTP_ADDRESS"
        ) from None
    listener.setblocking(False)
    return listener


async def stop(server: HttpServer, serving: asyncio.Task[None]) -> None:
    """Stops accepting, lets the requests under way finish, and returns when they have."""
    server.should_exit = True
    await serving
