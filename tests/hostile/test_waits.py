"""Whom the service gives some seconds, and then no more: all of them at once, for they take little but time."""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress

import pytest
from participants.v1 import participant_service_pb2 as messages

from server.rpc.guard.tarpit import SILENCE
from tests.bench.http2 import ACK, Type, frame
from tests.conftest import Deployment
from tests.hostile.grpc_wire import SERVICE, Wire, bomb, headers
from tests.hostile.others import another_unhurt
from tests.hostile.test_http_connections import assert_refused, head
from tests.support.clients import GrpcClient
from tests.support.process import eventually
from tests.support.raw import MEBIBYTE, connected, read_to_end

CREATE, GET = f"{SERVICE}/CreateParticipant", f"{SERVICE}/GetParticipant"
# More than the kernel takes in on both sides.
ENDLESS = 64 * MEBIBYTE


def who_reads_no_answer_over_grpc(deployment: Deployment) -> None:
    client = GrpcClient(deployment.service.grpc_address, deployment.tenant.key)
    attributes = {f"{number:02}": "x" * 4_094 for number in range(16)}
    large = client.create({"external_id": "large", "attributes": attributes}).participant["id"]
    client.close()
    with Wire(deployment.service.grpc_address, window=0) as wire:
        wire.send(frame(Type.SETTINGS, ACK, 0))
        # It sets no deadline, which would end the call, too.
        call = wire.call(GET, [("x-api-key", deployment.tenant.key)])
        wire.message(call, messages.GetParticipantRequest(id=large).SerializeToString())
        wire.socket.settimeout(30)
        wire.until_closed()


def who_sends_too_much_metadata(deployment: Deployment, path: str) -> None:
    sent = time.monotonic()
    with Wire(deployment.service.grpc_address) as wire:
        # To acknowledge the settings keeps the connection from being closed for that.
        wire.send(bomb(1, path, ("x-many", "y" * 30), 600) + frame(Type.SETTINGS, ACK, 0))
        # Before or after it is answered.
        streams = itertools.count(3, 2)
        eventually(lambda: not _is_answered(wire, next(streams), path))
        wire.socket.settimeout(SILENCE + 5)
        wire.until_closed()
    assert time.monotonic() - sent > SILENCE


def _is_answered(wire: Wire, stream: int, path: str) -> bool:
    wire.send(headers(stream, path, ended=True))
    wire.socket.settimeout(2)
    try:
        wire.until_ended(stream)
    except TimeoutError:
        return False
    return True


def who_says_nothing_over_grpc(deployment: Deployment) -> None:
    host, _, port = deployment.service.grpc_address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as silent:
        while silent.recv(1_000):
            pass
    client = GrpcClient(deployment.service.grpc_address, deployment.tenant.key)
    assert client.create({"external_id": "after"}).code == "OK"
    client.close()


def who_reads_no_answers_over_http(deployment: Deployment) -> None:
    requests = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n" * 10
    with connected(deployment.service, receive_buffer=4096) as connection:
        _send_until_cut_off(connection, requests)


def who_stops_half_way_over_http(deployment: Deployment) -> None:
    halves = [
        b"GET /li",
        b"GET /livez HTTP/1.1\r\nhost: x\r\nx-long: ",
        head("20", deployment.tenant.key),
        head("20", deployment.tenant.key) + b"{",
    ]
    started = time.monotonic()
    with ExitStack() as stack:
        connections = [stack.enter_context(connected(deployment.service)) for _ in [*halves, b""]]
        for connection, half in zip(connections, halves, strict=False):
            connection.sendall(half)
        *refused, silent = [read_to_end(connection) for connection in connections]
    for received in refused:
        assert_refused(received, 408, "request_timeout")
    assert silent == b""
    assert 8 < time.monotonic() - started < 15


def who_sends_a_head_without_end(deployment: Deployment, start: bytes, more: bytes) -> None:
    with connected(deployment.service) as connection:
        connection.sendall(start)
        _send_until_cut_off(connection, more)
        received = read_to_end(connection)
    if received:
        # One who goes on sending can lose the answer.
        assert_refused(received, 431, "headers_too_large")


def who_sends_trailers_without_end(deployment: Deployment) -> None:
    start = head("0", deployment.tenant.key).replace(b"content-length: 0", b"transfer-encoding: chunked")
    with connected(deployment.service) as connection:
        connection.sendall(start + b"0\r\nx-long: ")
        _send_until_cut_off(connection, b"x" * 65_536)


def _send_until_cut_off(connection: socket.socket, data: bytes) -> None:
    """Sends without end. Raises TimeoutError where it is neither read nor cut off."""
    sent = 0
    with suppress(ConnectionError):
        while sent < ENDLESS:
            connection.sendall(data)
            sent += len(data)
    assert sent < ENDLESS, "all of it was read"


WAITS: dict[str, Callable[[Deployment], None]] = {
    "reads no answer over gRPC": who_reads_no_answer_over_grpc,
    "sends too much metadata": lambda each: who_sends_too_much_metadata(each, CREATE),
    "sends too much metadata to nobody": lambda each: who_sends_too_much_metadata(each, "no.such.Service/Method"),
    "says nothing over gRPC": who_says_nothing_over_grpc,
    "reads no answers over HTTP": who_reads_no_answers_over_http,
    "stops half way over HTTP": who_stops_half_way_over_http,
    "sends a header without end": lambda each: who_sends_a_head_without_end(
        each, b"GET /livez HTTP/1.1\r\nhost: x\r\nx-long: ", b"x" * 65_536
    ),
    "sends a request line without end": lambda each: who_sends_a_head_without_end(each, b"GET /livez?", b"x" * 65_536),
    "sends headers without end": lambda each: who_sends_a_head_without_end(
        each, b"GET /livez HTTP/1.1\r\n", b"a:b\r\n" * 10_000
    ),
    "sends trailers without end": who_sends_trailers_without_end,
}


@pytest.fixture(scope="module")
def waited(deployment: Deployment) -> Mapping[str, Future[None]]:
    """What became of each, once all are done."""
    with another_unhurt(deployment), ThreadPoolExecutor(len(WAITS)) as pool:
        outcomes = {who: pool.submit(call, deployment) for who, call in WAITS.items()}
        wait(outcomes.values())
    return outcomes


@pytest.mark.parametrize("who", WAITS)
def test_no_longer_is_waited_for_whoever(waited: Mapping[str, Future[None]], who: str) -> None:
    waited[who].result()
