"""The port for operators, and what stays on the public one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from tests.conftest import Deployment, deployed
from tests.support import loopback


@pytest.fixture(scope="module")
def deployment(new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[Deployment]:
    """A service with a port for operators."""
    with new_database() as conninfo, deployed(conninfo, PARTICIPANTS_OPERATIONS_ADDRESS="127.0.0.1:0") as running:
        yield running


@pytest.fixture(scope="module")
def operations(deployment: Deployment) -> str:
    return deployment.service.operations_url


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_operators_ask_without_a_key(operations: str, path: str) -> None:
    response = loopback.get(operations + path)
    assert response.status_code == 200
    assert "x-request-id" in response.headers


def test_metrics_count_calls_of_the_public_port(deployment: Deployment, operations: str) -> None:
    before = calls_counted(operations)
    loopback.post(f"{deployment.service.http_url}/v1/participants", json={"external_id": "x"})
    assert calls_counted(operations) == before + 1


def calls_counted(operations: str) -> float:
    shown = loopback.get(f"{operations}/metrics").text
    return sum(
        map(float, re.findall(r'^grpc_server_handled_total\{.*"CreateParticipant".*\} (\S+)$', shown, re.MULTILINE))
    )


def test_the_public_port_tells_no_metrics(deployment: Deployment) -> None:
    assert loopback.get(f"{deployment.service.http_url}/metrics").status_code == 404
    assert loopback.get(f"{deployment.service.http_url}/livez").status_code == 200


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_operators_have_no_api(deployment: Deployment, operations: str, method: str) -> None:
    headers = {"x-api-key": deployment.tenant.key}
    assert loopback.request(method, f"{operations}/v1/participants", headers=headers).status_code == 404
