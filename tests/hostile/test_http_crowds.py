"""Crowds over HTTP of callers with good keys, all of whom have a call under way."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import httpx
import psycopg
import pytest

from tests.conftest import Deployment, Tenant
from tests.hostile.others import WORST_OF_CROWDS, others_unhurt
from tests.support.process import eventually
from tests.support.raw import connected

# More than the service keeps.
CROWD = 1_200
PATH = "/v1/participants"


@pytest.fixture
def locked(deployment: Deployment) -> Iterator[None]:
    """Locks a participant: batches that change it wait for seconds, and others of their organization for their turn."""
    headers = {"x-api-key": deployment.tenant.key}
    url = f"{deployment.service.http_url}{PATH}"
    # Of a crowd that has just gone, calls may still wait.
    eventually(lambda: httpx.post(url, json={"external_id": "locked"}, headers=headers).status_code != 429)
    with psycopg.connect(deployment.conninfo) as locker:
        assert locker.execute("SELECT FROM participants WHERE external_id = 'locked' FOR UPDATE").rowcount == 1
        yield


@contextmanager
def crowd(deployment: Deployment, size: int, request: bytes) -> Iterator[list[socket.socket]]:
    """Opens so many connections, and sends a request on each."""
    with ExitStack() as stack:
        connections = []
        for _ in range(size):
            connections.append(stack.enter_context(connected(deployment.service)))
            # Whoever has to make way may notice while it still speaks.
            with suppress(ConnectionError):
                connections[-1].sendall(request)
        yield connections


def ask(tenant: Tenant) -> bytes:
    return f"GET {PATH}?tag=none HTTP/1.1\r\nhost: x\r\nx-api-key: {tenant.key}\r\n\r\n".encode()


def upsert(tenant: Tenant) -> bytes:
    """Returns a call that waits for the lock."""
    return posted(PATH, {"external_id": "locked", "first_name": "Jane"}, tenant)


def batch(tenant: Tenant) -> bytes:
    """Returns a batch that waits for the lock, or for others that do."""
    return posted(f"{PATH}:batchCreate", {"requests": [{"external_id": "locked", "first_name": "Jane"}]}, tenant)


def posted(path: str, request: object, tenant: Tenant) -> bytes:
    body = json.dumps(request)
    return (
        f"POST {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {tenant.key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}"
    ).encode()


@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize("request_", [upsert, batch])
def test_calls_of_one_organization_keep_no_other_out(
    deployment: Deployment, request_: Callable[[Tenant], bytes]
) -> None:
    call = request_(deployment.tenant)
    with crowd(deployment, 2, ask(deployment.stranger)) as kept, crowd(deployment, 2, ask(deployment.tenant)) as own:
        assert {connection.recv(12) for connection in (*kept, *own)} == {b"HTTP/1.1 200"}
        with others_unhurt(deployment, WORST_OF_CROWDS), crowd(deployment, CROWD, call):
            # Its own connections that wait for nothing make way before its calls, and others' never.
            eventually(lambda: all(is_closed(connection) for connection in own), timeout=20)
            time.sleep(1)
            assert not any(is_closed(connection) for connection in kept)
            for connection in kept:
                connection.setblocking(True)
                connection.sendall(ask(deployment.stranger))
            assert {connection.recv(12) for connection in kept} == {b"HTTP/1.1 200"}


@pytest.mark.usefixtures("locked")
def test_strangers_end_no_first_call_that_waits_for_its_turn(deployment: Deployment) -> None:
    # More than there may be of those that never had an answer.
    with crowd(deployment, 300, batch(deployment.tenant)) as waiting:
        time.sleep(0.5)
        with crowd(deployment, CROWD, b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n") as strangers:
            assert strangers[-1].recv(12) == b"HTTP/1.1 200"
            assert [connection for connection in waiting if is_closed(connection)] == []


def is_closed(connection: socket.socket) -> bool:
    """Reads what is there, and tells whether that was the last."""
    connection.setblocking(False)
    try:
        while connection.recv(65_536):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        pass
    return True
