"""An RPC behind HTTP, where what it does is not seen from outside."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from google.protobuf.empty_pb2 import Empty

from server.api.buffers import Buffers
from server.api.servicer import SERVICE
from server.api.stints import LARGE_BYTES, Stints
from server.api.turns import Turns
from server.errors import InvalidArgument
from server.gateway.endpoint import PARSED_BYTES, Endpoint, Request
from server.gateway.routes import Routes


class Watched(Buffers):
    """Remembers the most that was held."""

    most = 0

    def change(self, organization_id: str, size: int) -> None:
        super().change(organization_id, size)
        self.most = max(self.most, self.held)


class Receiving:
    """An interceptor that receives requests, and has nothing done."""

    def __init__(self) -> None:
        self.stints = Stints(Turns())

    async def run(self, _name: str, _method: object, receive: Any, *_: object, **__: object) -> Empty:
        await receive("organization", asyncio.get_running_loop().time() + 10)
        return Empty()


@pytest.mark.parametrize("body", [b'{"external_id": "x"}', b'{"external_id": 5}'], ids=["fine", "refused"])
@pytest.mark.parametrize("size", [LARGE_BYTES, LARGE_BYTES + 1])
async def test_what_a_large_body_takes_to_be_parsed_is_held_only_while_it_is(body: bytes, size: int) -> None:
    route = next(route for route in Routes(SERVICE) if route.rpc == "CreateParticipant")
    buffers, nothing = Watched(), cast("Any", None)
    endpoint = Endpoint(route, nothing, cast("Any", Receiving()), buffers, "")

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body.ljust(size)}

    state = {"known": nothing, "complete": True}
    headers = {"content-type": "application/json", "content-length": str(size)}
    try:
        await endpoint.answer(Request("id", {}, b"", headers, receive, state, nothing))
    except InvalidArgument:
        assert b"5" in body
    assert buffers.most == (size * PARSED_BYTES if size > LARGE_BYTES else 0)
    assert buffers.held == 0
