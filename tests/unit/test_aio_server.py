"""Many calls are taken in at once, and those of whoever is shut out are not begun."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import grpc
import pytest

from server.errors import ServiceError
from server.rpc.aio_server import Server
from server.rpc.contexts import Context
from server.rpc.guard.gate import Gate
from server.rpc.guard.ledger import Ledger
from server.rpc.handlers import Rpc
from server.rpc.intake import AT_ONCE, Intake
from tests.support.rpc_server import METHOD, calls_held


class Handler:
    """Counts how often the event loop comes round until it is called, and answers with the message."""

    def __init__(self) -> None:
        self.round = 0
        self.begun: list[int] = []
        self.peers: set[str] = set()
        self.called = asyncio.Event()

    def service(self, _details: object) -> Any:
        """Finds itself, for grpcio left to itself."""
        return grpc.stream_unary_rpc_method_handler(self.answer)

    async def answer(self, _message: object, context: Context) -> Any:
        self.begun.append(self.round)
        self.peers.add(context.peer())
        self.called.set()
        return await context.read()

    async def count(self) -> None:
        while True:
            self.round += 1
            await asyncio.sleep(0)


def _calls(address: str, count: int) -> list[grpc.Future[bytes]]:
    """Makes calls by a client with threads of its own."""
    channel = grpc.insecure_channel(address)
    method: Any = channel.unary_unary(METHOD)
    return [method.future(b"a message", timeout=10, wait_for_ready=True) for _ in range(count)]


async def _rounds(server: Any, handler: Handler) -> int:
    """Returns how often the event loop came round from the first to the last of many calls that had come by then."""
    port = server.add_insecure_port(b"127.0.0.1:0")
    await server.start()
    (first,) = _calls(f"127.0.0.1:{port}", 1)
    await asyncio.to_thread(first.result)
    handler.begun.clear()
    counting = asyncio.create_task(handler.count())
    calls = _calls(f"127.0.0.1:{port}", AT_ONCE)
    time.sleep(0.5)  # noqa: ASYNC251  # that the event loop is busy is the point
    for call in calls:
        assert await asyncio.to_thread(call.result) == b"a message"
    counting.cancel()
    await server.shutdown(None)
    return max(handler.begun) - min(handler.begun)


@asynccontextmanager
async def _serving(server: Any) -> AsyncIterator[grpc.aio.Channel]:
    """Has a server serve, and yields a channel to it."""
    port = server.add_insecure_port(b"127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel


async def test_many_calls_are_taken_in_at_once() -> None:
    handler = Handler()
    rpcs: Any = {METHOD: handler.answer}
    assert await _rounds(Server(rpcs, [], Gate(Ledger()), Intake(Ledger()), []), handler) < AT_ONCE / 2


async def test_left_to_itself_grpcio_takes_them_in_one_by_one() -> None:
    """Where this fails, grpcio has changed, and a server of our own may no longer be needed."""
    handler = Handler()
    server = Server({}, [handler], Gate(Ledger()), Intake(Ledger()), [])  # type: ignore[list-item]  # as far as grpcio asks, it is one
    assert await _rounds(server, handler) >= AT_ONCE - 1


async def test_calls_of_whoever_is_shut_out_are_not_begun() -> None:
    handler, gate = Handler(), Gate(Ledger())
    rpcs: Any = {METHOD: handler.answer}
    server = Server(rpcs, [], gate, Intake(Ledger()), [])
    async with _serving(server) as channel:
        method: Any = channel.unary_unary(METHOD)
        assert await method(b"a message", timeout=10) == b"a message"
        (peer,) = handler.peers
        gate.refuse_all(peer)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await method(b"a message", timeout=10)
        assert refused.value.code() is grpc.StatusCode.CANCELLED
        assert len(handler.begun) == 1
        gate.heard(peer)
        assert await method(b"a message", timeout=10) == b"a message"
    await server.shutdown(None)


class Full(Intake):
    """Has no room for calls that have to wait, and all have to."""

    def try_begin(self) -> bool:
        return False

    async def begin(self, peer: str) -> bool:
        return False


class RefusedRpc:
    """An RPC as far as those of its calls go that are refused. `counted` are the errors that they were told."""

    name = "Call"

    def __init__(self) -> None:
        self.counted: list[ServiceError] = []

    async def refuse(self, context: Context) -> None:
        await Rpc.refuse(cast("Rpc", self), context)

    @property
    def interceptor(self) -> RefusedRpc:
        return self

    def not_begun(self, _name: str, error: ServiceError, _peer: object) -> None:
        self.counted.append(error)


async def test_who_has_too_many_calls_waiting_is_told_when_to_call_again() -> None:
    rpc = RefusedRpc()
    rpcs: Any = {METHOD: rpc}
    server = Server(rpcs, [], Gate(Ledger()), Full(Ledger()), [])
    async with _serving(server) as channel:
        method: Any = channel.unary_unary(METHOD)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await method(b"a message", timeout=10)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "grpc-retry-pushback-ms" in dict(refused.value.trailing_metadata() or ())
    assert [error.reason for error in rpc.counted] == ["QUEUE_FULL"]
    await server.shutdown(None)


@pytest.mark.usefixtures("no_collector")
async def test_of_calls_that_are_refused_nothing_stays() -> None:
    rpcs: Any = {METHOD: RefusedRpc()}
    server = Server(rpcs, [], Gate(Ledger()), Full(Ledger()), [])
    async with _serving(server) as channel:
        method: Any = channel.unary_unary(METHOD)
        left = []
        for _ in range(3):
            for _ in range(20):
                assert await method(b"a message", timeout=10).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            left.append(calls_held())
    assert left[-1] <= left[0] + 3
    await server.shutdown(None)


async def test_a_server_that_stops_lets_calls_finish_and_takes_no_more() -> None:
    handler = Handler()
    rpcs: Any = {METHOD: handler.answer}
    server = Server(rpcs, [], Gate(Ledger()), Intake(Ledger()), [])
    async with _serving(server) as channel:
        method: Any = channel.stream_unary(METHOD)
        under_way = method(timeout=10)
        await under_way.wait_for_connection()
        await asyncio.wait_for(handler.called.wait(), 10)
        stopping = asyncio.create_task(server.shutdown(10))
        await under_way.write(b"a message")
        assert await under_way == b"a message"
    await asyncio.wait_for(stopping, 5)
    assert not await server.wait_for_termination(None)
