"""How every connection of the service is opened and set up."""

from __future__ import annotations

from typing import Any, LiteralString

# How long the service waits for a new connection; in seconds.
CONNECT_TIMEOUT = 3
# A network that swallows packets is noticed this soon; in milliseconds.
TCP_USER_TIMEOUT = 5_000

# Upserts wait for other transactions' locks only where two insert the same key, and then briefly. The plans of our
# statements are all look-ups by key, made once per connection: planning each execution anew would cost more than
# running it, and a plan made while a table was small must not scan it when it has grown.
SESSION: tuple[LiteralString, ...] = (
    "SET timezone = 'UTC'",
    "SET lock_timeout = '200ms'",
    "SET statement_timeout = '15s'",
    "SET idle_in_transaction_session_timeout = '30s'",
    "SET plan_cache_mode = force_generic_plan",
    "SET enable_seqscan = off",
    "SET jit = off",
)


def connection_options() -> dict[str, Any]:
    """Returns what every connection of the service is opened with."""
    return {
        "autocommit": True,
        "application_name": "participants",
        "connect_timeout": CONNECT_TIMEOUT,
        "tcp_user_timeout": TCP_USER_TIMEOUT,
        "keepalives_idle": 30,
    }
