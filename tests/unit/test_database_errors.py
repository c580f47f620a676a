"""What each of the driver's errors means: a value's, contention's, the world's, or a bug of ours."""

from __future__ import annotations

import logging

import psycopg
import pytest
from psycopg import errors
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from server.errors import Unavailable
from server.participants.repository import Contention, Refused
from server.postgres.errors import StatementFailed, translated_errors

# As Postgres says it, with the statement and its values.
TEXT = 'something is wrong\nLINE 1: INSERT INTO participants VALUES ("jane@example.com")'


@pytest.mark.parametrize(
    ("sqlstate", "meaning"),
    [
        ("22001", Refused),  # string_data_right_truncation
        ("23514", Refused),  # check_violation
        ("40P01", Contention),  # deadlock_detected
        ("55P03", Contention),  # lock_not_available
        ("40001", Contention),  # serialization_failure
        ("57014", Unavailable),  # query_canceled
        ("25006", Unavailable),  # read_only_sql_transaction
        ("53100", Unavailable),  # disk_full
        ("53200", Unavailable),  # out_of_memory
        ("53300", Unavailable),  # too_many_connections
        ("57P01", Unavailable),  # admin_shutdown
        ("57P02", Unavailable),  # crash_shutdown
        ("57P03", Unavailable),  # cannot_connect_now: it starts, stops or recovers
        ("57P05", Unavailable),  # idle_session_timeout
        ("58030", Unavailable),  # io_error
        ("XX000", Unavailable),  # internal_error
        ("XX001", Unavailable),  # data_corrupted
        ("42501", Unavailable),  # insufficient_privilege
        ("26000", Unavailable),  # invalid_sql_statement_name: a pooler forgot what was prepared
        ("42P05", Unavailable),  # duplicate_prepared_statement: it knows somebody else's
        ("0A000", Unavailable),  # "cached plan must not change result type", after a migration
        ("42601", StatementFailed),  # syntax_error
        ("42703", StatementFailed),  # undefined_column
        ("42P01", StatementFailed),  # undefined_table
    ],
)
def test_an_error_of_postgres(sqlstate: str, meaning: type[Exception]) -> None:
    with pytest.raises(meaning), translated_errors:
        raise errors.lookup(sqlstate)(TEXT)


@pytest.mark.parametrize("error", [psycopg.OperationalError, PoolTimeout, PoolClosed, TooManyRequests])
def test_a_connection_that_cannot_be_had(error: type[psycopg.Error]) -> None:
    with pytest.raises(Unavailable), translated_errors:
        raise error(TEXT)


@pytest.mark.parametrize("error", [errors.CheckViolation, errors.DiskFull, errors.QueryCanceled, errors.SyntaxError])
def test_neither_the_log_nor_a_traceback_quotes_the_statement(
    error: type[psycopg.Error], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Exception) as told, translated_errors:  # noqa: PT011  # whatever it becomes
        raise error(TEXT)
    logging.getLogger().error("a statement failed", exc_info=told.value)
    assert "LINE 1" not in caplog.text
    assert "jane@example.com" not in caplog.text
