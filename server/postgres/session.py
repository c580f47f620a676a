"""How every connection to Postgres is opened, and the settings that requests need."""

from __future__ import annotations

import os
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from server.config import Conninfo

# How long to wait for a new connection; in seconds. The first packet is sent again after one, and libpq knows no less.
CONNECT_TIMEOUT = 2
# A network that swallows packets is noticed this soon, which is time enough for a packet to be sent four times; in
# milliseconds. Of a connection on which nothing is sent it is known this much later: a probe is then sent each second.
TCP_USER_TIMEOUT = 3_000
KEEPALIVE_SECONDS = 3

# Upserts wait for other transactions' locks only where two insert the same key, and then briefly. The plans of our
# statements are all look-ups by key, made once per connection: planning each execution anew would cost more than
# running it, and a plan made while a table was small must not scan it when it has grown. Each value is as
# `current_setting` shows it.
SETTINGS = {
    "timezone": "UTC",
    "lock_timeout": "200ms",
    "statement_timeout": "15s",
    "idle_in_transaction_session_timeout": "30s",
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "jit": "off",
}


def connect(conninfo: str) -> psycopg.Connection[Any]:
    """Returns a connection for an administrative command, in autocommit. Raises psycopg.OperationalError in time."""
    return psycopg.connect(conninfo, **connection_options())


def connection_options() -> dict[str, Any]:
    """Returns what every connection is opened with."""
    return {
        "autocommit": True,
        "application_name": "participants",
        # What is read and written past the driver is UTF-8, whatever PGCLIENTENCODING or the URL says.
        "client_encoding": "UTF8",
        "connect_timeout": CONNECT_TIMEOUT,
        "tcp_user_timeout": TCP_USER_TIMEOUT,
        "keepalives_idle": KEEPALIVE_SECONDS,
        "keepalives_interval": 1,
    }


def session_conninfo(conninfo: Conninfo) -> str:
    """Returns how to open the next connection for requests: with SETTINGS in its `options`.

    So they are the session's own defaults, and cost no round trip. A `SET` would go to whichever server connection a
    pooler has at hand, and stay there for its other clients.
    """
    if not isinstance(conninfo, str):
        conninfo = conninfo()
    given = conninfo_to_dict(conninfo).get("options") or os.environ.get("PGOPTIONS", "")
    ours = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
    return make_conninfo(conninfo, options=f"{given} {ours}".lstrip())
