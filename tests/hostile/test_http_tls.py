"""TLS on the HTTP port, with callers that stop in the middle of it, or behind it."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import httpx
import pytest
import trustme

from tests.conftest import Deployment, deployed
from tests.support.raw import MEBIBYTE, connected, most_resident_bytes, processor_seconds, resident_bytes
from tests.support.tls import Files

BUNDLE = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def deployment(
    new_database: Callable[[], AbstractContextManager[str]],
    authority: trustme.CA,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Deployment]:
    directory: Path = tmp_path_factory.mktemp("tls")
    with new_database() as conninfo, deployed(conninfo, **Files(directory, authority).variables) as running:
        yield running


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    return context


def livez(deployment: Deployment, context: ssl.SSLContext) -> int:
    url = deployment.service.http_url.replace("http://127.0.0.1", "https://localhost")
    return httpx.get(f"{url}/livez", verify=context, timeout=30).status_code


def test_handshakes_that_are_not_finished_are_few(deployment: Deployment, trusting: ssl.SSLContext) -> None:
    livez(deployment, trusting)
    before = resident_bytes(deployment.service)
    with ExitStack() as crowd:
        for number in range(3_000):
            connection = crowd.enter_context(connected(deployment.service))
            # The beginning of a record that is longer.
            connection.sendall(b"\x16\x03\x01\x02\x00" if number % 2 else b"")
        # How long it waits depends on the machine; what it costs, the rest of the crowd included, does not.
        before_seconds = processor_seconds(deployment.service)
        assert livez(deployment, trusting) == 200
        assert processor_seconds(deployment.service) - before_seconds < 2
        # Each takes 76 KB.
        assert most_resident_bytes(deployment.service) < before + 100 * MEBIBYTE


def test_answers_that_nobody_reads_are_bounded_behind_tls(deployment: Deployment, trusting: ssl.SSLContext) -> None:
    livez(deployment, trusting)
    before = resident_bytes(deployment.service)
    with ExitStack() as crowd:
        for _ in range(200):
            plain = crowd.enter_context(connected(deployment.service, receive_buffer=4096))
            encrypted = crowd.enter_context(trusting.wrap_socket(plain, server_hostname="localhost"))
            encrypted.sendall(BUNDLE)
        assert livez(deployment, trusting) == 200
        # The answers have 280 MiB.
        assert most_resident_bytes(deployment.service) < before + 100 * MEBIBYTE


def test_a_large_answer_is_whole(deployment: Deployment, trusting: ssl.SSLContext) -> None:
    with (
        connected(deployment.service, receive_buffer=4096) as plain,
        trusting.wrap_socket(plain, server_hostname="localhost") as encrypted,
    ):
        encrypted.sendall(BUNDLE.replace(b"host: x", b"host: x\r\nconnection: close"))
        received = b""
        while piece := encrypted.recv(65_536):
            received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in head
