"""Connections that say too much, or nothing."""

from __future__ import annotations

import socket
from typing import Any

import grpc
import pytest

from tests.conftest import Deployment
from tests.hostile.grpc_wire import SERVICE
from tests.support.clients import GrpcClient

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


def test_a_connection_that_says_nothing_is_closed(deployment: Deployment) -> None:
    host, _, port = deployment.service.grpc_address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as silent:
        while silent.recv(1_000):
            pass
    client = GrpcClient(deployment.service.grpc_address, deployment.tenant.key)
    assert client.create({"external_id": "after"}).code == "OK"
    client.close()
