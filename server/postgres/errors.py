"""What the driver's errors mean in the service's words.

A value's are only those that say so, and contention's; a database that is away, read-only, full, out of connections or
closed to our role is the state of the world, and not a bug of the service's.
"""

from __future__ import annotations

import logging
from types import TracebackType

import psycopg
from psycopg import errors

from server.errors import Unavailable
from server.participants.repository import Contention, Refused

logger = logging.getLogger(__name__)

# Where a constraint forbids a row that the statement's snapshot allowed, another transaction came in between.
_CONTENTION = (
    errors.DeadlockDetected,
    errors.LockNotAvailable,
    errors.SerializationFailure,
    errors.UniqueViolation,
    errors.ForeignKeyViolation,
)

# A new connection may do better: it finds the new primary where this one's server was demoted (class 25), and has its
# statements where a pooler forgot them or a migration changed what they answer with.
STALE_CONNECTION = (
    psycopg.InternalError,
    errors.InvalidSqlStatementName,
    errors.DuplicatePreparedStatement,
    errors.FeatureNotSupported,
)

# The pool's own errors are OperationalErrors, too.
_UNAVAILABLE = (psycopg.OperationalError, errors.InsufficientPrivilege, *STALE_CONNECTION)


class StatementFailed(Exception):
    """The database says that a statement of ours is wrong: a bug. Carries no SQL, as the driver's error does."""


class TranslatedErrors:
    """A context that raises Contention, Refused, Unavailable and StatementFailed in place of the driver's errors.

    It is entered for every statement: a class costs half of what a generator does.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, psycopg.Error):
            raise _translated(error) from None


translated_errors = TranslatedErrors()


def _translated(error: psycopg.Error) -> Exception:
    if isinstance(error, _CONTENTION):
        return Contention()
    if isinstance(error, psycopg.DataError | psycopg.IntegrityError):
        logger.warning("the database refused a value: %s", described(error))
        return Refused()
    if isinstance(error, _UNAVAILABLE):
        logger.warning("the database is not available: %s", described(error))
        return Unavailable()
    return StatementFailed(described(error))


def described(error: psycopg.Error) -> str:
    """Returns what may be logged of an error: its text can quote our SQL and a caller's values."""
    if error.sqlstate is None:
        return type(error).__name__
    return f"{type(error).__name__} (SQLSTATE {error.sqlstate}, {error.diag.severity_nonlocalized})"
