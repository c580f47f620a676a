"""The port for operators, and what stays on the public one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from tests.conftest import Deployment, deployed
from tests.support import loopback
from tests.support.process import Service


@pytest.fixture(scope="module")
def deployment(new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[Deployment]:
    """A service with a port for operators."""
    with new_database() as conninfo, deployed(conninfo, PARTICIPANTS_OPERATIONS_ADDRESS="127.0.0.1:0") as running:
        yield running


def operations_url(service: Service) -> str:
    return "http://" + service.wait_for_output(r"serving operators on (\S+)\n")[1]


@pytest.fixture(scope="module")
def operations(deployment: Deployment) -> str:
    return operations_url(deployment.service)


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_operators_ask_without_a_key(operations: str, path: str) -> None:
    response = loopback.get(operations + path)
    assert response.status_code == 200
    assert "x-request-id" in response.headers


def test_metrics_count_calls_of_the_public_port(deployment: Deployment, operations: str) -> None:
    loopback.post(f"{deployment.service.http_url}/v1/participants", json={"external_id": "x"})
    assert 'CreateParticipant"' in loopback.get(f"{operations}/metrics").text


def test_the_public_port_tells_no_metrics(deployment: Deployment) -> None:
    assert loopback.get(f"{deployment.service.http_url}/metrics").status_code == 404
    assert loopback.get(f"{deployment.service.http_url}/livez").status_code == 200


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_operators_have_no_api(deployment: Deployment, operations: str, method: str) -> None:
    headers = {"x-api-key": deployment.tenant.key}
    assert loopback.request(method, f"{operations}/v1/participants", headers=headers).status_code == 404


def test_operators_are_answered_by_workers_together(
    new_database: Callable[[], AbstractContextManager[str]],
) -> None:
    variables = {"PARTICIPANTS_OPERATIONS_ADDRESS": "127.0.0.1:0", "PARTICIPANTS_WORKERS": "2"}
    with new_database() as conninfo, deployed(conninfo, **variables) as running:
        assert loopback.get(f"{operations_url(running.service)}/metrics").status_code == 200
