"""Connections over HTTP that are slow, silent, many, or deaf."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Iterator

import pytest

from tests.conftest import Deployment
from tests.hostile.others import another_unhurt
from tests.support import loopback
from tests.support.process import COMMAND, Service, environment
from tests.support.raw import (
    MEBIBYTE,
    connected,
    forget_most_resident_bytes,
    most_resident_bytes,
    read_to_end,
    resident_bytes,
)

PATH = "/v1/participants"


@pytest.fixture(autouse=True)
def others(deployment: Deployment) -> Iterator[None]:
    with another_unhurt(deployment):
        yield


@pytest.fixture
def crowd() -> Iterator[contextlib.ExitStack]:
    """Closes the connections that a test opens."""
    with contextlib.ExitStack() as stack:
        yield stack


def head(size: str, key: str, path: str = PATH) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {size}\r\n\r\n"
    ).encode()


def assert_refused(answer: bytes, status: int, code: str) -> None:
    start, _, body = answer.partition(b"\r\n\r\n")
    assert start.startswith(f"HTTP/1.1 {status} ".encode()), answer[:200]
    assert b"x-request-id: " in start
    assert json.loads(body)["code"] == code


class TestDeaf:
    """Callers that ask and never read."""

    @pytest.mark.parametrize("path", ["/livez", "/metrics", "/nowhere"])
    def test_requests_without_end(self, deployment: Deployment, path: str) -> None:
        requests = f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode() * 2000
        sent = 0
        with (
            connected(deployment.service, timeout=2.0, receive_buffer=4096) as connection,
            contextlib.suppress(TimeoutError, ConnectionError),
        ):
            while sent < 200 * MEBIBYTE:
                sent += connection.send(requests)
        # What the kernel takes in on both sides, and little more.
        assert sent < 16 * MEBIBYTE

    def test_pipelined_requests_are_answered_in_order(self, deployment: Deployment) -> None:
        paths = ["/livez", "/nowhere", "/readyz"] * 5
        requests = "".join(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n" for path in paths)
        with connected(deployment.service) as connection:
            connection.sendall(requests.encode() + b"GET /livez HTTP/1.0\r\n\r\n")
            answers = read_to_end(connection).split(b"HTTP/1.1 ")[1:]
        assert [answer[:3] for answer in answers] == [b"200", b"404", b"200"] * 5 + [b"200"]

    def test_more_pipelined_requests_than_are_taken_end_the_connection_after_those(
        self, deployment: Deployment
    ) -> None:
        with connected(deployment.service) as connection:
            connection.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n" * 100)
            answers = read_to_end(connection).split(b"HTTP/1.1 ")[1:]
        assert 1 <= len(answers) < 100
        assert all(answer.startswith(b"200") for answer in answers)
        assert b"connection: close" in answers[-1]


class TestEndless:
    """Heads and bodies that are larger than any need to be."""

    @pytest.mark.parametrize(
        ("request_", "status"),
        [
            (b"GET /livez HTTP/1.1\r\nx-long: " + b"x" * 60_000 + b"\r\n\r\n", 200),
            (b"GET /livez HTTP/1.1\r\nx-long: " + b"x" * 66_000 + b"\r\n\r\n", 431),
            (b"GET /livez?" + b"x" * 66_000 + b" HTTP/1.1\r\n\r\n", 431),
            (b"GET /livez HTTP/1.1\r\n" + b"a:b\r\n" * 200 + b"\r\n", 431),
        ],
        ids=["large", "header", "request line", "headers"],
    )
    def test_a_head_beyond_the_limit(self, deployment: Deployment, request_: bytes, status: int) -> None:
        with connected(deployment.service) as connection:
            connection.sendall(request_)
            connection.shutdown(socket.SHUT_WR) if status == 431 else None
            received = connection.recv(65_536) if status == 200 else read_to_end(connection)
        if status == 200:
            assert received.startswith(b"HTTP/1.1 200 ")
        else:
            assert_refused(received, 431, "headers_too_large")

    def test_a_body_of_a_stranger_is_not_waited_for(self, deployment: Deployment) -> None:
        with connected(deployment.service, timeout=5.0) as connection:
            connection.sendall(head("1000000", "sk_unknown") + b'{"external_id": ')
            assert connection.recv(65_536).startswith(b"HTTP/1.1 401 ")

    @pytest.mark.parametrize("known", [True, False])
    def test_large_bodies_from_everywhere_that_stop_before_their_end(
        self, deployment: Deployment, crowd: contextlib.ExitStack, known: bool
    ) -> None:
        request = head(str(MEBIBYTE), deployment.stranger.key if known else "sk_unknown") + b" " * (MEBIBYTE - 1)
        forget_most_resident_bytes(deployment.service)
        before, sent = resident_bytes(deployment.service), 0
        for _ in range(200):
            connection = crowd.enter_context(connected(deployment.service))
            connection.settimeout(0.01)
            with contextlib.suppress(TimeoutError):
                sent += connection.send(request)
        # What is read of them is read by then; all of them have 200 MiB.
        time.sleep(1)
        assert sent > 100 * MEBIBYTE
        assert most_resident_bytes(deployment.service) - before < 100 * MEBIBYTE


class TestSilent:
    """Callers that stop in the middle."""

    def test_crowds_do_not_keep_others_out(self, deployment: Deployment, crowd: contextlib.ExitStack) -> None:
        for number in range(1500):
            connection = crowd.enter_context(connected(deployment.service))
            with contextlib.suppress(ConnectionError):
                connection.sendall([b"", b"GET /li", b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"][number % 3])
        assert loopback.get(f"{deployment.service.http_url}/livez").status_code == 200


class TestKept:
    """Connections that are kept and in use, beside crowds that would take their places."""

    @pytest.mark.parametrize(
        "data",
        [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"GET /livez HTTP/1.1\r\n" + b"a:b\r\n" * 200,
            b"GET /livez HTTP/1.1\r\nx-long: " + b"x" * 66_000,
            b"GET /li",
            b"",
        ],
        ids=["another protocol", "headers", "header", "half a head", "nothing"],
    )
    def test_strangers_who_get_no_good_answer_close_none(
        self, deployment: Deployment, crowd: contextlib.ExitStack, data: bytes
    ) -> None:
        livez = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"
        body = b'{"external_id": "another"}'
        requests = [livez, livez.replace(b"livez", b"readyz"), head(str(len(body)), deployment.tenant.key) + body]
        kept = [(crowd.enter_context(connected(deployment.service)), request) for request in requests]
        # While those stay for a while who were refused, they are more than there may be.
        for _ in range(24):
            ask(kept)
            for _ in range(100):
                stranger = crowd.enter_context(connected(deployment.service))
                with contextlib.suppress(ConnectionError):
                    stranger.sendall(data)
        ask(kept)

    def test_strangers_who_get_answers_close_none_with_a_good_key(
        self, deployment: Deployment, crowd: contextlib.ExitStack
    ) -> None:
        body = b'{"external_id": "another"}'
        kept = crowd.enter_context(connected(deployment.service))
        ask([(kept, head(str(len(body)), deployment.tenant.key) + body)])
        for _ in range(1500):
            stranger = crowd.enter_context(connected(deployment.service))
            ask([(stranger, b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")])
        ask([(kept, head(str(len(body)), deployment.tenant.key) + body)])

    def test_newcomers_are_answered_beside_strangers_who_had_answers(
        self, deployment: Deployment, crowd: contextlib.ExitStack
    ) -> None:
        for _ in range(1000):
            stranger = crowd.enter_context(connected(deployment.service))
            ask([(stranger, b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")])
        newcomer = crowd.enter_context(connected(deployment.service))
        for _ in range(200):
            crowd.enter_context(connected(deployment.service))
        ask([(newcomer, b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")])


def ask(connections: list[tuple[socket.socket, bytes]]) -> None:
    """Sends each connection its request, and asserts that it is answered as it should."""
    for connection, request in connections:
        connection.sendall(request)
    for connection, _ in connections:
        with http.client.HTTPResponse(connection) as answer:
            answer.begin()
            assert answer.status in {200, 201}
            answer.read()


def test_a_limit_of_open_files_that_a_shell_has_set_lets_nobody_keep_others_out(database: str) -> None:
    limited = ("/bin/sh", "-c", 'ulimit -Sn 256 && exec "$0" "$@"', COMMAND)
    service = Service(environment(DATABASE_URL=database), command=limited)
    try:
        with contextlib.ExitStack() as crowd:
            for _ in range(600):
                crowd.enter_context(connected(service))
            assert loopback.get(f"{service.http_url}/livez").status_code == 200
    finally:
        assert service.stop() == 0
