"""Our server of grpcio, with one RPC that a test answers, and how many calls grpcio still has."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from server.rpc.aio_server import Server
from server.rpc.guard.gate import Gate
from server.rpc.guard.ledger import Ledger
from server.rpc.intake import Intake

METHOD = "/a.Service/Call"


@asynccontextmanager
async def serving(answer: Callable[[Any, Any], Awaitable[Any]], *, ours: bool) -> AsyncIterator[str]:
    """Has calls answered that the server takes in itself, or leaves to grpcio, and yields its address."""
    handler: Any = grpc.stream_unary_rpc_method_handler(answer)
    rpcs: Any = {METHOD: answer} if ours else {}
    others = [] if ours else [grpc.method_handlers_generic_handler("a.Service", {"Call": handler})]
    server = Server(rpcs, others, Gate(Ledger()), Intake(Ledger()), [])
    port = server.add_insecure_port(b"127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.shutdown(None)


def calls_held() -> int:
    """Returns how many calls grpcio has, with those that it has ready for whoever comes next."""
    return sum(type(each).__name__ == "RPCState" for each in gc.get_objects())
