"""The pool of connections: how many there are, and how each is set up."""

from __future__ import annotations

import asyncio

import orjson
import psycopg
from psycopg import AsyncConnection
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool

from server.config import Conninfo
from server.postgres import queries
from server.postgres.errors import described
from server.postgres.prepared import PreparedConnection
from server.postgres.session import CONNECT_TIMEOUT, connection_options, session_conninfo

MIN_CONNECTIONS = 2
# A connection is replaced when it is this old, and so moves to a server or a password that is new; in seconds.
MAX_LIFETIME = 900.0
# How long a request waits for a connection before it says UNAVAILABLE; in seconds.
POOL_TIMEOUT = 3.0


def connection_pool(conninfo: Conninfo, size: int) -> AsyncConnectionPool:
    """Returns a pool, to be opened, of at most `size` connections on which every query is prepared.

    It checks none that it gives: it would pause for a second after each one that Postgres closed, and then for two.
    """
    return AsyncConnectionPool(
        lambda: session_conninfo(conninfo),
        kwargs=connection_options(),
        min_size=min(MIN_CONNECTIONS, size),
        max_size=size,
        max_lifetime=MAX_LIFETIME,
        timeout=POOL_TIMEOUT,
        # Short, so that an attempt that began while Postgres was away does not back off past its return.
        reconnect_timeout=CONNECT_TIMEOUT,
        configure=_set_up,
        open=False,
    )


async def _set_up(connection: AsyncConnection) -> None:
    set_json_loads(orjson.loads, connection)
    prepared = PreparedConnection(connection)
    try:
        # The pool waits for no more than three at a time: none of them may take for ever.
        async with asyncio.timeout(CONNECT_TIMEOUT):
            for query in queries.ALL:
                await prepared.prepare(query)
    except TimeoutError:
        prepared.close()
        raise psycopg.OperationalError(f"the queries were not prepared within {CONNECT_TIMEOUT} s") from None
    except psycopg.Error as error:
        # The pool logs what it is told, and Postgres quotes the statement.
        raise psycopg.OperationalError(f"cannot prepare a query: {described(error)}") from None
    finally:
        prepared.detach()
