"""Requests over HTTP that are small and make a great deal of work, from callers without a key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.conftest import Deployment
from tests.support.raw import connected, processor_seconds, read_to_end

PATH = "/v1/participants"


@pytest.fixture
def stranger(deployment: Deployment) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=deployment.service.http_url, timeout=20) as client:
        yield client


@pytest.mark.parametrize("end", [';"' + ";" * 60_000, ";" * 60_000], ids=["in quotes", "not in quotes"])
def test_a_content_type_without_end(deployment: Deployment, stranger: httpx.Client, end: str) -> None:
    before = processor_seconds(deployment.service)
    response = stranger.post(PATH, content=b"{}", headers={"content-type": "application/json" + end})
    assert response.status_code == 415
    # It took 2.4 s, before the key was looked at.
    assert processor_seconds(deployment.service) - before < 0.5


def test_metrics_that_are_asked_for_all_the_time(deployment: Deployment, stranger: httpx.Client) -> None:
    def ask(_: int) -> int:
        return stranger.get("/metrics").status_code

    before = processor_seconds(deployment.service)
    with ThreadPoolExecutor(8) as callers:
        assert set(callers.map(ask, range(400))) == {200}
    # To write them out anew took 3 to 5 ms for each.
    assert processor_seconds(deployment.service) - before < 1.0


def test_a_content_length_of_many_digits(deployment: Deployment) -> None:
    with connected(deployment.service) as connection:
        connection.sendall(
            b"POST /v1/participants HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n"
            b"content-length: " + b"0" * 5_000 + b"2\r\n\r\n{}"
        )
        answer = read_to_end(connection)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "unauthorized"
