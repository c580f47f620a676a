"""Requests over HTTP of which it is not clear where they end: whoever guesses wrong takes a body for a request."""

from __future__ import annotations

import json
import time

import pytest

from tests.conftest import Deployment
from tests.support.raw import connected, read_to_end

BODY = json.dumps({"external_id": "framed"}).encode()
NEXT = b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


def head(deployment: Deployment, fields: str) -> bytes:
    return (
        f"POST /v1/participants HTTP/1.1\r\nhost: x\r\nx-api-key: {deployment.tenant.key}\r\n"
        f"content-type: application/json\r\n{fields}\r\n\r\n"
    ).encode()


def statuses(deployment: Deployment, *pieces: bytes) -> list[bytes]:
    """Sends pieces, each a packet of its own, and returns the status of each answer."""
    with connected(deployment.service) as connection:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(0.05)
        return [answer[:3] for answer in read_to_end(connection).split(b"HTTP/1.1 ")[1:]]


@pytest.mark.parametrize(
    "upgrade",
    [
        "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk",
        "connection: upgrade\r\nupgrade: x",
    ],
    ids=["as of Java", "other"],
)
@pytest.mark.parametrize("in_pieces", [True, False])
def test_who_asks_for_another_protocol_is_answered_in_this_one(
    deployment: Deployment, upgrade: str, in_pieces: bool
) -> None:
    length = head(deployment, f"content-length: {len(BODY)}\r\n{upgrade}")
    chunked = head(deployment, f"transfer-encoding: chunked\r\n{upgrade}")
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    pieces = [length, BODY, chunked, chunks, NEXT]
    answers = statuses(deployment, *pieces) if in_pieces else statuses(deployment, b"".join(pieces))
    assert answers[0] in {b"200", b"201"}
    assert answers[1:] == [b"200", b"200"]


def test_the_connection_ends_with_a_connect(deployment: Deployment) -> None:
    assert statuses(deployment, b"CONNECT /livez HTTP/1.1\r\nhost: x\r\n\r\n" + NEXT) == [b"405"]


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        ("content-length: 5\r\ntransfer-encoding: chunked", b"0\r\n\r\n"),
        ("content-length: 2\r\ncontent-length: 3", b"{} "),
        ("content-length: 2, 2", b"{}"),
        ("content-length: +2", b"{}"),
        ("content-length : 2", b"{}"),
        ("transfer-encoding: x", b"0\r\n\r\n"),
        ("transfer-encoding: chunked, x", b"0\r\n\r\n"),
        ("transfer-encoding: chunked", b"ffffffffffffffffff\r\n"),
        ("x: y\r\n content-length: 2", b"{}"),
    ],
    ids=str,
)
def test_framing_that_can_be_read_in_two_ways_is_refused(deployment: Deployment, fields: str, body: bytes) -> None:
    assert statuses(deployment, head(deployment, fields) + body + NEXT) == [b"400"]
