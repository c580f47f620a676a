"""What the acceptance tests share: a look into the service's database, and keys of participants that are new."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.conftest import Deployment


@pytest.fixture
def connection(deployment: Deployment) -> Iterator[psycopg.Connection[Any]]:
    """A connection of the test's own to the service's database, in autocommit."""
    with psycopg.connect(deployment.conninfo, autocommit=True) as opened:
        yield opened


@pytest.fixture
def external_id() -> str:
    """A key that no participant has."""
    return f"user-{uuid4()}"
