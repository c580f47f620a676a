"""grpcio accepts few newcomers at a time, or all, as its own poller sees it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from server.rpc.guard.listeners import Listeners, Pace

METHOD = "/test/Echo"
SERVERS = 4
PACE = Pace(turn=0.1, waiting=4)
# How long newcomers wait who may not be accepted, in seconds.
PATIENCE = 0.5


async def _echo(request: bytes, _context: object) -> bytes:
    return request


class Echo(grpc.GenericRpcHandler):
    """Answers a call with its message."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        return grpc.unary_unary_rpc_method_handler(_echo)


def _server() -> grpc.aio.Server:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 1)])
    server.add_generic_rpc_handlers([Echo()])
    return server


def _method(channel: grpc.aio.Channel) -> Any:
    return channel.unary_unary(METHOD)


@dataclass
class Servers:
    """Several that listen on one port."""

    running: Sequence[grpc.aio.Server]
    port: int

    def channel(self) -> grpc.aio.Channel:
        """Returns a channel that has a connection of its own."""
        return grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", [("grpc.use_local_subchannel_pool", 1)])

    async def answered(self, newcomers: int, patience: float) -> int:
        """Returns how many of so many newcomers get an answer within so long, in seconds."""
        return sum(await asyncio.gather(*(self._call(patience) for _ in range(newcomers))))

    async def _call(self, patience: float) -> bool:
        async with self.channel() as channel:
            try:
                return bool(await _method(channel)(b"echo", timeout=patience) == b"echo")
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                    raise
                return False


@pytest.fixture
async def servers() -> AsyncIterator[Servers]:
    running, port = [_server() for _ in range(SERVERS)], 0
    for server in running:
        port = server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
    yield Servers(running, port)
    for server in running:
        await server.stop(None)


async def test_one_of_several_accepts(servers: Servers) -> None:
    listeners = Listeners(servers.port)
    listeners.accept_in_turn(0.0, PACE)
    listeners.accept_in_turn(PACE.turn, PACE)
    # The kernel deals newcomers out by chance: 10 of 40, about.
    assert 0 < await servers.answered(40, PATIENCE) < 30
    listeners.accept_all()


async def test_who_waited_is_accepted_in_its_turn(servers: Servers) -> None:
    listeners = Listeners(servers.port)
    listeners.accept_in_turn(0.0, PACE)
    # More than may wait, too: they are connected later.
    answered = asyncio.ensure_future(servers.answered(40, 20.0))
    turn = 0
    while not answered.done():
        await asyncio.sleep(0.2)
        turn += 1
        listeners.accept_in_turn(turn * PACE.turn, PACE)
    assert turn > SERVERS
    assert await answered == 40
    listeners.accept_all()


async def test_nobody_is_accepted_before_the_first_turn_and_between_turns(servers: Servers) -> None:
    listeners = Listeners(servers.port)
    listeners.accept_in_turn(0.0, PACE)
    assert await servers.answered(20, PATIENCE) == 0
    listeners.accept_in_turn(PACE.turn, PACE)
    listeners.accept_in_turn(PACE.turn * 1.5, PACE)
    assert await servers.answered(20, PATIENCE) == 0
    listeners.accept_all()


async def test_who_waited_is_accepted_once_all_accept(servers: Servers) -> None:
    listeners = Listeners(servers.port)
    listeners.accept_in_turn(0.0, PACE)
    answered = asyncio.ensure_future(servers.answered(40, 20.0))
    await asyncio.sleep(0.3)
    assert not answered.done()
    listeners.accept_all()
    assert await answered == 40


async def test_who_is_connected_is_heard(servers: Servers) -> None:
    channels = [servers.channel() for _ in range(20)]
    calls = [_method(channel) for channel in channels]
    await asyncio.gather(*(call(b"before") for call in calls))
    listeners = Listeners(servers.port)
    listeners.accept_in_turn(0.0, PACE)
    assert await asyncio.gather(*(call(b"while", timeout=5) for call in calls)) == [b"while"] * 20
    listeners.accept_all()
    for channel in channels:
        await channel.close()


async def test_nobody_is_lost_however_often_it_changes(servers: Servers) -> None:
    listeners = Listeners(servers.port)
    answered = asyncio.ensure_future(servers.answered(300, 60.0))
    for turn in range(400):
        if turn % 5:
            listeners.accept_in_turn(turn * PACE.turn, PACE)
        else:
            listeners.accept_all()
        await asyncio.sleep(0.002)
    listeners.accept_all()
    assert await answered == 300


async def test_nobody_waits_at_a_server_that_has_stopped(servers: Servers) -> None:
    listeners = Listeners(servers.port)
    listeners.accept_in_turn(0.0, PACE)
    for server in servers.running:
        await server.stop(None)
    listeners.accept_in_turn(PACE.turn / 2, PACE)
    for _ in range(20):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", servers.port), timeout=5)


def test_another_file_that_has_the_number_now_stays_as_it_is() -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=True) as kept:
        closed = socket.create_server(kept.getsockname(), reuse_port=True)
        listeners = Listeners(kept.getsockname()[1])
        number = closed.fileno()
        closed.close()
        with socket.socket() as other:
            assert other.fileno() == number
            listeners.accept_in_turn(0.0, PACE)
            listeners.accept_in_turn(PACE.turn, PACE)
            assert other.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN) == socket.AF_INET
        listeners.accept_all()
