"""What the acceptance tests share: a service, a look into its database, and keys of participants that are new."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.conftest import Deployment, deployed, new_tenant


@pytest.fixture(scope="session")
def shared_deployment(new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[Deployment]:
    with new_database() as conninfo, deployed(conninfo) as running:
        yield running


@pytest.fixture(scope="module")
def deployment(shared_deployment: Deployment, request: pytest.FixtureRequest) -> Deployment:
    """The service that all modules share which need no other settings, with organizations of the module's own."""
    tenant, stranger = (
        new_tenant(shared_deployment.conninfo, f"{name} of {request.module.__name__}") for name in ("acme", "globex")
    )
    return replace(shared_deployment, tenant=tenant, stranger=stranger)


@pytest.fixture
def connection(deployment: Deployment) -> Iterator[psycopg.Connection[Any]]:
    """A connection of the test's own to the service's database, in autocommit."""
    with psycopg.connect(deployment.conninfo, autocommit=True) as opened:
        yield opened


@pytest.fixture
def external_id() -> str:
    """A key that no participant has."""
    return f"user-{uuid4()}"
