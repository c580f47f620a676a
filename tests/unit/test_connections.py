"""Connections are taken from grpcio, and given back, as its own poller sees it."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from server.rpc.guard import descriptors
from server.rpc.guard.connections import Connection, Connections, Taken

METHOD = "/test/Echo"
# More than the sockets between the two take in.
LARGE = bytes(8 << 20)


@dataclass
class Echo(grpc.GenericRpcHandler):
    """Answers a call with its message, once it may."""

    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    begun: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    ended: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        return grpc.unary_unary_rpc_method_handler(self._answer)

    async def _answer(self, request: bytes, _context: object) -> bytes:
        self.begun.release()
        try:
            await self.may_answer.wait()
        finally:
            self.ended.release()
        return request


@dataclass
class Link:
    """A server, and a client with one connection to it."""

    echo: Echo
    port: int
    call: Callable[[bytes], Any]
    taken: list[Taken] = field(default_factory=list)

    def connection(self) -> Connection:
        (found,) = Connections(self.port).look()
        return found

    def take(self) -> Taken:
        taken = self.connection().take()
        assert taken is not None
        self.taken.append(taken)
        return taken

    def give_all_back(self) -> None:
        """Gives back what a test that failed has taken: else the server would wait for it for ever."""
        for taken in self.taken:
            if not taken.is_let_go():
                taken.give_back()

    async def quiet(self) -> int:
        """Waits until nothing comes any more, such as what the client says of the last answer; returns what has."""
        received, before = self.connection().received, -1
        while received != before:
            await asyncio.sleep(0.1)
            received, before = self.connection().received, received
        return received


@pytest.fixture
async def link() -> AsyncIterator[Link]:
    echo = Echo()
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers([echo])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(
        f"127.0.0.1:{port}", options=[("grpc.max_receive_message_length", -1)]
    ) as channel:
        link = Link(echo, port, channel.unary_unary(METHOD, _as_it_is, _as_it_is))
        yield link
        link.give_all_back()
    await server.stop(None)


def _as_it_is(message: bytes) -> bytes:
    return message


async def _nothing_comes(call: Any) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(call), 0.3)


async def test_what_was_sent_while_it_was_taken_comes_once_it_is_given_back(link: Link) -> None:
    link.echo.may_answer.set()
    assert await link.call(b"before") == b"before"
    taken = link.take()
    call = asyncio.ensure_future(link.call(b"while"))
    await _nothing_comes(call)
    assert taken.is_open()
    taken.give_back()
    assert await asyncio.wait_for(call, 5) == b"while"
    assert await link.call(b"after") == b"after"


@pytest.mark.parametrize("message", [b"small", LARGE], ids=["small", "large"])
async def test_an_answer_that_is_written_while_it_was_taken_comes_once_it_is_given_back(
    link: Link, message: bytes
) -> None:
    call = asyncio.ensure_future(link.call(message))
    await link.echo.begun.acquire()
    taken = link.take()
    link.echo.may_answer.set()
    await _nothing_comes(call)
    taken.give_back()
    assert await asyncio.wait_for(call, 5) == message


async def test_a_large_message_goes_on_where_it_was(link: Link) -> None:
    link.echo.may_answer.set()
    await link.call(b"connected")
    call = asyncio.ensure_future(link.call(LARGE))
    for _ in range(20):
        taken = link.take()
        await asyncio.sleep(0.01)
        taken.give_back()
        await asyncio.sleep(0.002)
    assert await asyncio.wait_for(call, 10) == LARGE


async def test_what_is_kept_from_grpcio_is_not_counted_as_read(link: Link) -> None:
    link.echo.may_answer.set()
    await link.call(b"before")
    read = await link.quiet()
    taken = link.take()
    call = asyncio.ensure_future(link.call(bytes(10_000)))
    await _nothing_comes(call)
    assert taken.read == read
    assert link.connection().received > read + 10_000
    taken.give_back()
    assert len(await call) == 10_000


async def test_it_is_still_found_while_it_is_taken(link: Link) -> None:
    link.echo.may_answer.set()
    await link.call(b"connected")
    peer = link.connection().peer
    taken = link.take()
    assert link.connection().peer == peer
    taken.give_back()
    assert link.connection().peer == peer


async def test_for_grpcio_it_has_ended_once_it_is_ended_and_the_peer_is_not_told(link: Link) -> None:
    call = asyncio.ensure_future(link.call(b"waits"))
    await link.echo.begun.acquire()
    taken = link.take()
    taken.end()
    # The call is cancelled at once, though nothing comes from the peer.
    await asyncio.wait_for(link.echo.ended.acquire(), 1)
    await _nothing_comes(call)
    assert taken.is_open()
    assert taken.is_let_go()
    taken.close()
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_for_grpcio_it_has_ended_also_where_the_peer_is_gone_by_then(link: Link) -> None:
    call = asyncio.ensure_future(link.call(b"waits"))
    await link.echo.begun.acquire()
    taken = link.take()
    assert link.connection().abort()
    # What grpcio hears of that, it hears before the stand-in has ended.
    await asyncio.sleep(0.2)
    assert not taken.is_open()
    taken.end()
    await asyncio.wait_for(link.echo.ended.acquire(), 5)
    taken.close()
    with pytest.raises(grpc.aio.AioRpcError):
        await call


def test_what_grpcio_has_ended_meanwhile_is_ended_for_the_peer_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as peer:
        accepted, _ = server.accept()
        (connection,) = Connections(server.getsockname()[1]).look()
        taken = connection.take()
        assert taken is not None
        accepted.close()
        taken.give_back()
        with pytest.raises(ConnectionResetError):
            peer.recv(1)


def test_whoever_gets_the_number_of_a_connection_while_that_is_ended_is_not_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        with socket.create_connection(address) as peer, socket.create_connection(address) as next_peer:
            accepted, following = server.accept()[0], server.accept()[0]
            meant = descriptors.cookie(accepted.fileno())

            def cookie(_file: int) -> int:
                os.dup2(following.fileno(), accepted.fileno())
                return meant

            with accepted, following:
                monkeypatch.setattr(descriptors, "cookie", cookie)
                assert descriptors.abort_if(accepted.fileno(), meant)
                with pytest.raises(ConnectionResetError):
                    peer.recv(1)
                accepted.sendall(b"!")
                assert next_peer.recv(1) == b"!"


@pytest.mark.parametrize("end", [Connection.abort, Connection.take], ids=["ended", "taken"])
def test_whoever_has_the_number_of_a_connection_by_now_is_left_alone(end: Callable[[Connection], object]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        with socket.create_connection(address), socket.create_connection(address) as next_peer:
            accepted, following = server.accept()[0], server.accept()[0]
            peer = "ipv4:{}:{}".format(*accepted.getpeername())
            connection = next(each for each in Connections(address[1]).look() if each.peer == peer)
            with accepted, following:
                os.dup2(following.fileno(), accepted.fileno())
                assert not end(connection)
                accepted.sendall(b"!")
                assert next_peer.recv(1) == b"!"


@pytest.mark.parametrize("is_known", [True, False], ids=["seen before", "never seen"])
def test_nothing_is_read_of_whoever_has_reset_the_connection(is_known: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as peer:
        accepted, _ = server.accept()
        connections = Connections(server.getsockname()[1])
        if is_known:
            assert len(connections.look()) == 1
        peer.sendall(b"a message")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        assert connections.look() == []
        with accepted, pytest.raises(OSError, match=r"not connected|reset"):
            accepted.recv(1)
