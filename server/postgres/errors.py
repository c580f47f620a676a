"""What the driver's errors mean in the service's words."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg_pool import PoolClosed, PoolTimeout

from server.errors import Unavailable
from server.participants.repository import Contention, Refused

logger = logging.getLogger(__name__)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raises Contention, Refused and Unavailable in place of the driver's errors; any other is a bug and propagates."""
    try:
        yield
    except (psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable, psycopg.errors.SerializationFailure):
        raise Contention from None
    except psycopg.errors.QueryCanceled as error:
        logger.warning("a statement was cancelled: %s", error.diag.message_primary)
        raise Unavailable from None
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        # Nothing of the value itself: it is the caller's data.
        logger.warning("the database refused a value: %s %s", error.sqlstate, error.diag.constraint_name)
        raise Refused from None
    except (psycopg.OperationalError, PoolTimeout, PoolClosed) as error:
        logger.warning("the database is not available: %s", type(error).__name__)
        raise Unavailable from error
