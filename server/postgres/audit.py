"""The audit log: one line for every administrative change, in the transaction that makes the change."""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Mapping
from typing import Any

from psycopg import Connection
from psycopg.types.json import Jsonb
from uuid_utils import uuid7


def record(
    connection: Connection[Any],
    organization_id: str,
    action: str,
    subject: str | None = None,
    details: Mapping[str, str | None] | None = None,
) -> None:
    """Writes one line. `action` is a noun and a verb, `key.create`; `subject` is the id of what was changed."""
    connection.execute(
        """
        INSERT INTO audit_log (organization_id, entry_id, action, subject, details, host, os_user)
        VALUES (%s, %s, %s, %s, %s, %s, %s)
        """,
        (organization_id, str(uuid7()), action, subject, Jsonb(details or {}), socket.gethostname(), _os_user()),
    )


def _os_user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        # A container runs under any number.
        return str(os.getuid())
