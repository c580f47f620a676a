"""What the driver's errors mean in the service's words.

A value's are only those that say so, and contention's; a database that is away, read-only, full, out of connections or
closed to our role is the state of the world, and not a bug of the service's.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors

from server.errors import Unavailable
from server.participants.repository import Contention, Refused

logger = logging.getLogger(__name__)

_CONTENTION = (errors.DeadlockDetected, errors.LockNotAvailable, errors.SerializationFailure)

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


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raises Contention, Refused, Unavailable and StatementFailed in place of the driver's errors."""
    try:
        yield
    except _CONTENTION:
        raise Contention from None
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        logger.warning("the database refused a value: %s", described(error))
        raise Refused from None
    except _UNAVAILABLE as error:
        logger.warning("the database is not available: %s", described(error))
        raise Unavailable from None
    except psycopg.Error as error:
        raise StatementFailed(described(error)) from None


def described(error: psycopg.Error) -> str:
    """Returns what may be logged of an error: its text can quote our SQL and a caller's values."""
    if error.sqlstate is None:
        return type(error).__name__
    return f"{type(error).__name__} (SQLSTATE {error.sqlstate}, {error.diag.severity_nonlocalized})"
