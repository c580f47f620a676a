"""What must hold before the service starts: the role's privileges, commits that last, and what a pooler before Postgres
can break."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.pq import ExecStatus
from psycopg.rows import scalar_row

from server.config import ConfigurationError
from server.postgres.grants import check_grants
from server.postgres.session import SETTINGS, connect, session_conninfo

_STATEMENT = b"participants_preflight"
# How often both connections run what they prepared: a pooler may hand out the right server connection by chance.
_ROUNDS = 5


def check(conninfo: str) -> None:
    """Raises ConfigurationError where the role lacks privileges, its commits may be lost, or a session loses its
    settings or prepared statements.

    `conninfo` is of a database that has just been reached.
    """
    try:
        first = connect(session_conninfo(conninfo))
    except psycopg.OperationalError as error:
        raise ConfigurationError(
            f"the database takes no connection with options ({str(error).strip().splitlines()[-1]}); "
            "in PgBouncer set: ignore_startup_parameters = options"
        ) from None
    with first, connect(session_conninfo(conninfo)) as second:
        check_grants(first)
        _check_commits(first)
        _check_settings(first)
        if not _keep_prepared_statements(first, second):
            raise ConfigurationError(
                "the pooler in front of the database loses prepared statements; "
                "take PgBouncer 1.22 or newer with max_prepared_statements of 40 or more"
            )


def _check_commits(connection: psycopg.Connection[Any]) -> None:
    """Refuses commits that are acknowledged before they are on disk.

    It is not one of SETTINGS, for every other value is the operator's to choose: whether to wait for standbys.
    """
    setting = connection.cursor(row_factory=scalar_row).execute("SHOW synchronous_commit").fetchone()
    if setting == "off":
        raise ConfigurationError(
            "synchronous_commit is off, so a crash of Postgres would lose what callers were told is written; "
            f'run: ALTER ROLE "{connection.info.user}" SET synchronous_commit = on'
        )


def _check_settings(connection: psycopg.Connection[Any]) -> None:
    lost = (
        connection.cursor(row_factory=scalar_row)
        .execute(
            "SELECT name FROM unnest(%s::text[], %s::text[]) AS s (name, value) WHERE current_setting(name) <> value",
            (list(SETTINGS), list(SETTINGS.values())),
        )
        .fetchall()
    )
    if lost:
        role = connection.info.user
        statements = " ".join(f"ALTER ROLE \"{role}\" SET {name} = '{SETTINGS[name]}';" for name in lost)
        raise ConfigurationError(
            "the pooler in front of the database drops settings that the service needs; "
            f"have the role bring them, and the pooler reconnect: {statements}"
        )


def _keep_prepared_statements(first: psycopg.Connection[Any], second: psycopg.Connection[Any]) -> bool:
    """Tells whether two clients can prepare different statements under one name, and each finds its own again."""
    clients = {b"1": first, b"2": second}
    for answer, client in clients.items():
        prepared = client.pgconn.prepare(_STATEMENT, b"SELECT " + answer)
        if prepared.status != ExecStatus.COMMAND_OK:
            # It was another client's: do not leave it behind.
            client.pgconn.exec_(b"DEALLOCATE " + _STATEMENT)
            return False
    for _ in range(_ROUNDS):
        for answer, client in clients.items():
            result = client.pgconn.exec_prepared(_STATEMENT, [])
            if result.status != ExecStatus.TUPLES_OK or result.get_value(0, 0) != answer:
                return False
    return True
