"""Connections over HTTP that come again and again, and faster than they can be served."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest

from tests.conftest import Deployment
from tests.hostile.others import FLOOD_SECONDS, alone, others_unhurt
from tests.support.process import Service
from tests.support.raw import connected

LIVEZ = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"
THREADS = 4
# Three times as many as the service keeps, and how long others may wait where each of them is answered; in seconds.
CROWD, WORST_OF_REQUESTS = 3_000, 1.0


@alone
@pytest.mark.parametrize(
    ("data", "kept"),
    [
        (b"", 5_000),
        (b"GET /livez HTTP/1.1\r\nx-long: " + b"x" * 60_000, 3_000),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 300),
        (b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * 200, 900),
        (LIVEZ, 1_500),
        (LIVEZ, 0),
    ],
    ids=["silent", "half a head", "another protocol", "many requests", "answered", "gone at once"],
)
def test_connections_that_come_again_and_again(deployment: Deployment, data: bytes, kept: int) -> None:
    with others_unhurt(deployment):
        until = time.monotonic() + FLOOD_SECONDS
        with ThreadPoolExecutor(THREADS) as strangers:
            came = strangers.map(
                lambda _: connect_until(deployment.service, data, kept // THREADS, until), range(THREADS)
            )
    assert min(came) > 1


@alone
@pytest.mark.parametrize("has_key", [True, False], ids=["by a key holder", "by strangers"])
def test_a_crowd_that_asks_at_once_and_stays(deployment: Deployment, has_key: bool) -> None:
    key = f"x-api-key: {deployment.tenant.key}\r\n".encode() if has_key else b""
    with others_unhurt(deployment, WORST_OF_REQUESTS), ExitStack() as stack:
        for _ in range(CROWD):
            crowded = stack.enter_context(connected(deployment.service))
            # Whoever has to make way may notice while it still speaks.
            with suppress(ConnectionError):
                crowded.sendall(b"GET /v1/participants?page_size=1 HTTP/1.1\r\nhost: x\r\n" + key + b"\r\n")
        time.sleep(1)


def connect_until(service: Service, data: bytes, kept: int, until: float) -> int:
    """Opens connections until then, sends data on each, and closes the oldest where there are more than are kept.

    Returns on how many it could send.
    """
    connections = deque([connected(service)])
    came = 0
    while time.monotonic() < until:
        with suppress(OSError):
            connections.append(connected(service))
            connections[-1].sendall(data)
            came += 1
        while len(connections) > kept:
            connections.popleft().close()
    for connection in connections:
        connection.close()
    return came
