"""What to do about a database's error, for whoever typed the command."""

from __future__ import annotations

import psycopg
from psycopg import errors

# The first that fits; {said} is Postgres' own sentence, which names tables, never values.
_ADVICE: tuple[tuple[tuple[type[psycopg.Error], ...], str], ...] = (
    (
        (errors.UndefinedTable, errors.UndefinedColumn),
        "the database's schema is not the one this version needs; run: participants migrate",
    ),
    (
        (errors.InvalidSchemaName,),
        "there is no schema to make tables in; CREATE SCHEMA, or correct the search_path of the database role",
    ),
    (
        (errors.InsufficientPrivilege,),
        "the database role may not do this ({said}); the README says what to grant, under Database roles",
    ),
    ((errors.ReadOnlySqlTransaction,), "the database is read-only; point DATABASE_URL at the primary"),
    (
        (psycopg.OperationalError, psycopg.InternalError),
        "the database cannot do this now ({said}); try again when it can",
    ),
)


def advice(error: Exception) -> str | None:
    """Returns one line, or None where the error is a bug of ours."""
    if not isinstance(error, psycopg.Error):
        return None
    if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
        # libpq's text can hold the host and user, never the password; its first line says what happened.
        first = str(error).strip().splitlines()[0]
        return f"cannot reach the database: {first}; check DATABASE_URL"
    for types, line in _ADVICE:
        if isinstance(error, types):
            return line.format(said=error.diag.message_primary)
    return None
