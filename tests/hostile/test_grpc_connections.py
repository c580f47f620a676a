"""Connections that say too much, or nothing."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from typing import Any

import grpc
import pytest

from tests.bench.http2 import ACK, PREFACE, Type, frame
from tests.conftest import Deployment
from tests.hostile.crowd import crowd
from tests.hostile.grpc_wire import SERVICE, Wire
from tests.hostile.others import FLOOD_SECONDS, WORST_OF_NEWCOMERS, WORST_SECONDS, alone, others_unhurt

CREATE = f"{SERVICE}/CreateParticipant"


def called(deployment: Deployment, size: int) -> str:
    """Returns what a call came to that has so many bytes of metadata beside the key."""
    metadata = [("x-api-key", deployment.tenant.key), ("x-much", "x" * size)]
    with grpc.insecure_channel(deployment.service.grpc_address) as channel:
        call: Any = channel.unary_unary(f"/{CREATE}")
        try:
            call(b"\x0a\x01x", metadata=metadata, timeout=10)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


@pytest.mark.parametrize(("size", "code"), [(15_000, "OK"), (17_000, "RESOURCE_EXHAUSTED")])
def test_metadata_beyond_16_kib_is_refused(deployment: Deployment, size: int, code: str) -> None:
    assert called(deployment, size) == code


@alone
@pytest.mark.parametrize("size", [8, 64])
@pytest.mark.parametrize("said", [b"", PREFACE], ids=["nothing", "a preface"])
def test_connections_that_are_closed_as_soon_as_they_are_open(deployment: Deployment, size: int, said: bytes) -> None:
    host, _, port = deployment.service.grpc_address.rpartition(":")
    came = []

    def come_and_go(wire: Wire) -> None:
        until = time.monotonic() + FLOOD_SECONDS
        # Whoever stays says as much as others do.
        wire.send(frame(Type.SETTINGS, ACK, 0))
        while time.monotonic() < until:
            with suppress(OSError), socket.create_connection((host, int(port)), timeout=2) as again:
                again.sendall(said)
                came.append(again)

    with (
        others_unhurt(deployment, WORST_SECONDS, WORST_OF_NEWCOMERS),
        crowd(size, lambda: Wire(deployment.service.grpc_address), come_and_go),
    ):
        pass
    assert len(came) > size
