"""What the integration tests share: a Postgres that they may stop, freeze and kill."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import own_directory
from tests.support.own_postgres import OwnPostgres


@pytest.fixture(scope="session")
def own_postgres() -> Iterator[OwnPostgres]:
    """A running Postgres, to be left running."""
    with own_directory() as directory:
        postgres = OwnPostgres(directory)
        yield postgres
        postgres.stop()
