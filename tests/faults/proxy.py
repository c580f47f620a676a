"""A TCP proxy that misbehaves on demand, between the service and Postgres."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from enum import Enum, auto
from typing import Any

DELAY = 0.2
# Of the answers that are lost, this share.
LOST_SHARE = 0.2
_CHUNK = 1 << 16


class Mode(Enum):
    """What the proxy does to connections, those that are open and those that are made."""

    PASS = auto()
    DELAY = auto()
    # They are closed, as by a firewall that has forgotten them, and new ones too.
    DROP = auto()
    # The same by RST.
    RESET = auto()
    # Nothing goes through, and nobody is told; what was open then stays dead afterwards.
    BLACKHOLE = auto()
    # The request goes through, and the connection breaks before the answer does: it may have been that of a commit.
    LOSE_ANSWERS = auto()


class Proxy:
    """Listens on loopback and leads to a Unix socket, in a thread of its own. `address` is HOST, PORT."""

    def __init__(self, upstream: str, seed: int) -> None:
        self._upstream = upstream
        self._random = random.Random(seed)
        self._mode = Mode.PASS
        self._open: set[_Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.address: tuple[str, int] = self._server.sockets[0].getsockname()[:2]

    def set(self, mode: Mode) -> None:
        """Changes what it does."""
        self._run(self._set(mode))

    def close(self) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def loses_this_answer(self) -> bool:
        return self._mode is Mode.LOSE_ANSWERS and self._random.random() < LOST_SHARE

    @property
    def delay(self) -> float:
        return DELAY if self._mode is Mode.DELAY else 0.0

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=10)

    async def _set(self, mode: Mode) -> None:
        self._mode = mode
        for connection in list(self._open):
            self._treat(connection)

    def _treat(self, connection: _Connection) -> None:
        if self._mode is Mode.DROP:
            connection.close()
        elif self._mode is Mode.RESET:
            connection.reset()
        elif self._mode is Mode.BLACKHOLE:
            connection.is_dead = True

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream = await asyncio.open_unix_connection(self._upstream)
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection(self, (reader, writer), upstream)
        self._open.add(connection)
        self._treat(connection)
        try:
            await connection.forward()
        finally:
            self._open.discard(connection)

    async def _close(self) -> None:
        self._server.close()
        for connection in list(self._open):
            connection.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)


class _Connection:
    """One connection, from client to server."""

    def __init__(
        self,
        proxy: Proxy,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self.is_dead = False

    async def forward(self) -> None:
        """Carries bytes both ways until one side closes or the proxy does."""
        requests = asyncio.create_task(self._requests())
        answers = asyncio.create_task(self._answers())
        await asyncio.wait([requests, answers], return_when=asyncio.FIRST_COMPLETED)
        for task in (requests, answers):
            task.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await task
        self.close()

    def close(self) -> None:
        for _, writer in (self._client, self._server):
            writer.close()

    def reset(self) -> None:
        # A socket that lingers for no time is closed by RST.
        sock = self._client[1].get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._client[1].transport.abort()
        self._server[1].close()

    async def _requests(self) -> None:
        while data := await self._client[0].read(_CHUNK):
            await self._write(self._server[1], data)

    async def _answers(self) -> None:
        while data := await self._server[0].read(_CHUNK):
            if self._proxy.loses_this_answer():
                self.reset()
                return
            await self._write(self._client[1], data)

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        if self.is_dead:
            return
        if self._proxy.delay:
            await asyncio.sleep(self._proxy.delay)
        writer.write(data)
        await writer.drain()
