"""What operators do: organizations, API keys and programs, on one connection of their own.

Every change is a transaction that writes its line of the audit log, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg import Connection
from psycopg.errors import UniqueViolation
from psycopg.rows import class_row
from uuid_utils import uuid7

from server.auth.keys import KeyReference, digest, new_key
from server.postgres import audit


@dataclass(frozen=True, slots=True)
class ListedKey:
    """A key as operators see it: everything but the key. `state` is active, expired or revoked."""

    key_id: str
    organization: str
    name: str
    state: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class Rotation:
    """A key that follows another: its id, itself, whose it is, and when the one before it expires."""

    key_id: str
    key: str
    organization: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class ListedProgram:
    """A program of an organization."""

    program_id: str
    organization: str
    name: str
    created_at: datetime


class NameTaken(Exception):
    """The organization has a program of that name already."""


class NoSuchOrganization(Exception):
    """There is no organization of that name."""


class NoSuchKey(Exception):
    """There is no key with that id."""


class KeyEnded(Exception):
    """The key is revoked or expired: there is nothing to rotate."""


def ensure_organization(connection: Connection[Any], name: str) -> str:
    """Returns the id of the organization of that name, which is made if there is none."""
    with connection.transaction():
        made = connection.execute(
            "INSERT INTO organizations (organization_id, name) VALUES (%s, %s) ON CONFLICT (name) DO NOTHING",
            (str(uuid7()), name),
        )
        organization = organization_id(connection, name)
        if made.rowcount:
            audit.record(connection, organization, "organization.create", details={"name": name})
    return organization


def organization_id(connection: Connection[Any], name: str) -> str:
    """Returns the id of the organization of that name, or raises NoSuchOrganization."""
    row = connection.execute("SELECT organization_id::text FROM organizations WHERE name = %s", (name,)).fetchone()
    if row is None:
        raise NoSuchOrganization
    return str(row[0])


def create_key(
    connection: Connection[Any], organization: str, name: str, expires_at: datetime | None
) -> tuple[str, str]:
    """Makes a key, and returns its id and the key itself, which is stored nowhere."""
    with connection.transaction():
        reference, key = _insert_key(connection, ensure_organization(connection, organization), name, expires_at)
        details = {"name": name, "expires_at": _text(expires_at)}
        audit.record(connection, reference.organization_id, "key.create", reference.key_id, details)
    return reference.key_id, key


def is_active(connection: Connection[Any], key: str) -> bool:
    """Tells whether a key works."""
    active = connection.execute(
        """
        SELECT FROM api_keys
        WHERE digest = %s AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
        """,
        (digest(key),),
    )
    return active.rowcount > 0


def rotate_key(connection: Connection[Any], key_id: str, overlap: timedelta) -> Rotation:
    """Makes a key of the same organization and name as another, which expires after `overlap`, or earlier if it would.

    A key that was made to expire is followed by one that lives as long. Raises NoSuchKey and KeyEnded.
    """
    now = datetime.now(UTC)
    with connection.transaction():
        row = connection.execute(
            """
            SELECT k.organization_id::text, o.name, k.name, k.created_at, k.expires_at, k.revoked_at
            FROM api_keys AS k JOIN organizations AS o USING (organization_id)
            WHERE k.key_id = %s FOR UPDATE OF k
            """,
            (key_id,),
        ).fetchone()
        if row is None:
            raise NoSuchKey
        organization_id, organization, name, created_at, expires_at, revoked_at = row
        if revoked_at is not None or (expires_at is not None and expires_at <= now):
            raise KeyEnded
        following, key = _insert_key(
            connection, organization_id, name, None if expires_at is None else now + (expires_at - created_at)
        )
        ends = now + overlap if expires_at is None else min(now + overlap, expires_at)
        connection.execute(
            "UPDATE api_keys SET expires_at = %s WHERE organization_id = %s AND key_id = %s",
            (ends, organization_id, key_id),
        )
        details = {"followed_by": following.key_id, "expires_at": _text(ends)}
        audit.record(connection, organization_id, "key.rotate", key_id, details)
    return Rotation(following.key_id, key, organization, ends)


def _insert_key(
    connection: Connection[Any], organization_id: str, name: str, expires_at: datetime | None
) -> tuple[KeyReference, str]:
    reference, key = new_key(organization_id)
    connection.execute(
        "INSERT INTO api_keys (organization_id, key_id, name, digest, expires_at) VALUES (%s, %s, %s, %s, %s)",
        (reference.organization_id, reference.key_id, name, digest(key), expires_at),
    )
    return reference, key


def _text(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(UTC).isoformat(timespec="seconds")


def list_keys(connection: Connection[Any], organization: str | None) -> Sequence[ListedKey]:
    """Returns the keys of one organization, or of all, oldest first."""
    return (
        connection.cursor(row_factory=class_row(ListedKey))
        .execute(
            """
            SELECT k.key_id, o.name AS organization, k.name, k.created_at, k.expires_at, k.revoked_at, k.last_used_at,
                CASE
                    WHEN k.revoked_at IS NOT NULL THEN 'revoked'
                    WHEN k.expires_at <= now() THEN 'expired'
                    ELSE 'active'
                END AS state
            FROM api_keys AS k JOIN organizations AS o USING (organization_id)
            WHERE %(organization)s::text IS NULL OR o.name = %(organization)s
            ORDER BY k.created_at, k.key_id
            """,
            {"organization": organization},
        )
        .fetchall()
    )


def revoke_key(connection: Connection[Any], key_id: str) -> bool:
    """Revokes a key, and tells whether there is one with this id. Revoking twice is revoking once."""
    with connection.transaction():
        # The time is a parameter: a distributed Postgres takes no function of the clock here.
        revoked = connection.execute(
            """
            UPDATE api_keys SET revoked_at = %s WHERE key_id = %s AND revoked_at IS NULL
            RETURNING organization_id::text
            """,
            (datetime.now(UTC), key_id),
        ).fetchone()
        if revoked is not None:
            audit.record(connection, revoked[0], "key.revoke", key_id)
            return True
        return connection.execute("SELECT FROM api_keys WHERE key_id = %s", (key_id,)).rowcount > 0


def create_program(connection: Connection[Any], organization: str, name: str) -> str:
    """Makes a program of an organization and returns its id. Raises NoSuchOrganization and NameTaken."""
    program_id = str(uuid7())
    owner = organization_id(connection, organization)
    try:
        with connection.transaction():
            connection.execute(
                "INSERT INTO programs (organization_id, program_id, name) VALUES (%s, %s, %s)",
                (owner, program_id, name),
            )
            audit.record(connection, owner, "program.create", program_id, {"name": name})
    except UniqueViolation:
        raise NameTaken from None
    return program_id


def list_programs(connection: Connection[Any], organization: str | None) -> Sequence[ListedProgram]:
    """Returns the programs of one organization, or of all, oldest first."""
    return (
        connection.cursor(row_factory=class_row(ListedProgram))
        .execute(
            """
            SELECT p.program_id::text, o.name AS organization, p.name, p.created_at
            FROM programs AS p JOIN organizations AS o USING (organization_id)
            WHERE %(organization)s::text IS NULL OR o.name = %(organization)s
            ORDER BY p.created_at, p.program_id
            """,
            {"organization": organization},
        )
        .fetchall()
    )
