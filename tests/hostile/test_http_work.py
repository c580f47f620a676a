"""Requests over HTTP that are small and make a great deal of work, from callers without a key."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.conftest import Deployment
from tests.support import loopback
from tests.support.raw import MEBIBYTE, connected, processor_seconds, read_to_end

PATH = "/v1/participants"


@pytest.fixture
def stranger(deployment: Deployment) -> Iterator[httpx.Client]:
    with loopback.Client(base_url=deployment.service.http_url, timeout=20) as client:
        yield client


@pytest.mark.parametrize("end", [';"' + ";" * 60_000, ";" * 60_000], ids=["in quotes", "not in quotes"])
def test_a_content_type_without_end(deployment: Deployment, stranger: httpx.Client, end: str) -> None:
    before = processor_seconds(deployment.service)
    response = stranger.post(PATH, content=b"{}", headers={"content-type": "application/json" + end})
    assert response.status_code == 415
    # It took 2.4 s, before the key was looked at.
    assert processor_seconds(deployment.service) - before < 0.5


def test_queries_of_thousands_of_parameters_are_not_looked_at(deployment: Deployment) -> None:
    query = "&".join(f"a{number}=%00" for number in range(1_500))
    request = f"GET {PATH}?{query} HTTP/1.1\r\nhost: x\r\nx-api-key: {deployment.tenant.key}\r\n\r\n".encode()
    before = processor_seconds(deployment.service)
    with connected(deployment.service) as connection:
        for _ in range(400):
            connection.sendall(request)
            status, fields = refusal(connection)
            assert status == 400
            assert [field["reason"] for field in fields] == ["QUERY_TOO_LONG"]
    # Each took 5 ms.
    assert processor_seconds(deployment.service) - before < 1


def test_who_sends_a_query_without_measure_is_refused_before_it_is_taken_apart(deployment: Deployment) -> None:
    request = f"GET {PATH}?{'a=%00&' * 10_000} HTTP/1.1\r\nhost: x\r\n\r\n".encode()
    with connected(deployment.service) as connection:
        connection.sendall(request)
        answer = read_to_end(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "bad_request"


def refusal(connection: socket.socket) -> tuple[int, list[dict[str, str]]]:
    """Returns the status of the next answer, and what it says of the fields."""
    with http.client.HTTPResponse(connection) as answer:
        answer.begin()
        return answer.status, json.loads(answer.read())["details"]["fields"]


def test_metrics_that_are_asked_for_all_the_time(deployment: Deployment, stranger: httpx.Client) -> None:
    def ask(_: int) -> int:
        return stranger.get("/metrics").status_code

    before, started = processor_seconds(deployment.service), time.monotonic()
    with ThreadPoolExecutor(8) as callers:
        assert set(callers.map(ask, range(400))) == {200}
    # To write them out anew took 3 to 5 ms for each, and may take a tenth of a processor.
    assert processor_seconds(deployment.service) - before < 1.0 + (time.monotonic() - started) / 10


def test_a_content_length_of_many_digits(deployment: Deployment) -> None:
    with connected(deployment.service) as connection:
        connection.sendall(
            b"POST /v1/participants HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n"
            b"content-length: " + b"0" * 5_000 + b"2\r\n\r\n{}"
        )
        answer = read_to_end(connection)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "unauthorized"


@pytest.mark.parametrize("known", [True, False], ids=["good key", "stranger"])
def test_chunks_of_a_byte_are_few(deployment: Deployment, known: bool) -> None:
    key = deployment.tenant.key if known else "sk_unknown"
    head = (
        "POST /v1/participants HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n"
        f"x-api-key: {key}\r\n\r\n"
    )
    before = processor_seconds(deployment.service)
    with connected(deployment.service) as connection:
        # Whoever is refused may notice while it still speaks.
        with contextlib.suppress(ConnectionError):
            connection.sendall(head.encode())
            for _ in range(100):
                connection.sendall(b"1\r\n \r\n" * 5_000)
        answers = read_to_end(connection).split(b"HTTP/1.1 ")[1:]
    # One who goes on sending can lose the answer.
    assert [answer[:3] for answer in answers] in ([b"400"], [] if known else [b"401"], [])
    # All of them would take a second.
    assert processor_seconds(deployment.service) - before < 0.2


def test_bodies_that_nobody_wants_are_read_slowly(deployment: Deployment) -> None:
    body = bytes(MEBIBYTE)
    head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    started = time.monotonic()

    def send(_: int) -> int:
        sent = 0
        with connected(deployment.service) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10)
            while time.monotonic() < started + 2:
                connection.sendall(head.encode() + body)
                sent += len(body)
        return sent

    with ThreadPoolExecutor(8) as strangers:
        sent = sum(strangers.map(send, range(8)))
    # All the while it took a gibibyte a second, and time from everybody.
    assert sent / (time.monotonic() - started) < 100 * MEBIBYTE


def test_little_is_kept_of_what_a_caller_does_not_read(deployment: Deployment) -> None:
    with connected(deployment.service, receive_buffer=4096) as connection:
        connection.sendall(b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: x\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 200"
        time.sleep(0.2)
        kept = sum(
            int(fields[4].split(":")[0], 16)
            for fields in map(str.split, Path("/proc/net/tcp").read_text().splitlines()[1:])
            if fields[2].endswith(f":{connection.getsockname()[1]:04X}")
        )
    assert 0 < kept < 512 << 10
