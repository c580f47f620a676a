"""TLS before a Postgres of the tests', which knows none: it is spoken as a server does, and all else carried on."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import trustme
from psycopg.conninfo import conninfo_to_dict, make_conninfo

# What a client sends to ask for TLS, and the answer that it may begin.
REQUEST_BYTES, WILLING = 8, b"S"
CHUNK = 1 << 16


@contextmanager
def behind_tls(conninfo: str, certificate: trustme.LeafCert) -> Iterator[str]:
    """Shows a certificate for localhost before a database, and yields how to connect through it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    front = _Front(conninfo, context)
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(front.accept, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield make_conninfo(conninfo, host="localhost", port=server.sockets[0].getsockname()[1])
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.close()


class _Front:
    def __init__(self, conninfo: str, context: ssl.SSLContext) -> None:
        self._parameters = conninfo_to_dict(conninfo)
        self._context = context

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carries what one client and the database say until both have ended."""
        # Clients that do not like the certificate are gone at once.
        with suppress(OSError):
            await reader.readexactly(REQUEST_BYTES)
            writer.write(WILLING)
            await writer.start_tls(self._context)
            server_reader, server_writer = await self._connect()
            await asyncio.gather(_carry(reader, server_writer), _carry(server_reader, writer))

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = str(self._parameters["host"]), self._parameters.get("port") or 5432
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, int(port))


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    writer.close()
