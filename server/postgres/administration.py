"""What operators do: organizations, API keys and programs, on one connection of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from psycopg import Connection
from psycopg.errors import UniqueViolation
from psycopg.rows import class_row
from uuid_utils import uuid7

from server.auth.keys import digest, new_key


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


def ensure_organization(connection: Connection[Any], name: str) -> str:
    """Returns the id of the organization of that name, which is made if there is none."""
    connection.execute(
        "INSERT INTO organizations (organization_id, name) VALUES (%s, %s) ON CONFLICT (name) DO NOTHING",
        (str(uuid7()), name),
    )
    return organization_id(connection, name)


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
    reference, key = new_key(ensure_organization(connection, organization))
    connection.execute(
        "INSERT INTO api_keys (organization_id, key_id, name, digest, expires_at) VALUES (%s, %s, %s, %s, %s)",
        (reference.organization_id, reference.key_id, name, digest(key), expires_at),
    )
    return reference.key_id, key


def list_keys(connection: Connection[Any], organization: str | None) -> Sequence[ListedKey]:
    """Returns the keys of one organization, or of all, oldest first."""
    return (
        connection.cursor(row_factory=class_row(ListedKey))
        .execute(
            """
            SELECT k.key_id, o.name AS organization, k.name, k.created_at, k.expires_at, k.revoked_at,
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
    # The time is a parameter: a distributed Postgres takes no function of the clock here.
    cursor = connection.execute(
        "UPDATE api_keys SET revoked_at = coalesce(revoked_at, %s) WHERE key_id = %s", (datetime.now(UTC), key_id)
    )
    return cursor.rowcount > 0


def create_program(connection: Connection[Any], organization: str, name: str) -> str:
    """Makes a program of an organization and returns its id. Raises NoSuchOrganization and NameTaken."""
    program_id = str(uuid7())
    try:
        connection.execute(
            "INSERT INTO programs (organization_id, program_id, name) VALUES (%s, %s, %s)",
            (organization_id(connection, organization), program_id, name),
        )
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
