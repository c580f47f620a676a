"""What the serving role may do: only what requests need. The owner of the tables, who migrates, grants it."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import scalar_row

from server.config import ConfigurationError

# By table. Whoever adds a query sees in the tests, where the service runs as such a role, what it needs besides.
GRANTS = {
    "alembic_version": ("SELECT",),
    "schema_compatibility": ("SELECT",),
    # A fixed key's organization is made at the start.
    "organizations": ("SELECT", "INSERT"),
    "api_keys": ("SELECT", "UPDATE (last_used_at)"),
    "audit_log": ("INSERT",),
    "programs": ("SELECT",),
    # What is erased is deleted from every table.
    "participants": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "participant_labels": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "enrollments": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "counters": ("SELECT", "DELETE"),
    "balances": ("SELECT", "DELETE"),
    "tiers": ("SELECT", "DELETE"),
}


def grant(connection: psycopg.Connection[Any], role: str) -> None:
    """Grants the role what serving needs, in the schema that the connection finds first.

    Raises ConfigurationError when there is no such role.
    """
    schema = connection.execute("SELECT current_schema()").fetchone()
    assert schema is not None
    grantee = sql.Identifier(role)
    try:
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(schema[0]), grantee))
    except psycopg.errors.UndefinedObject:
        raise ConfigurationError(f"there is no database role {role!r}; make it first: CREATE ROLE") from None
    for table, privileges in GRANTS.items():
        connection.execute(
            sql.SQL("GRANT {} ON {} TO {}").format(
                sql.SQL(", ").join(map(sql.SQL, privileges)), sql.Identifier(table), grantee
            )
        )


def check_grants(connection: psycopg.Connection[Any]) -> None:
    """Raises ConfigurationError when the connection's role lacks something that serving needs."""
    needed = [(table, privilege) for table, privileges in GRANTS.items() for privilege in privileges]
    missing = (
        connection.cursor(row_factory=scalar_row)
        .execute(
            """
            SELECT privilege || ' on ' || name FROM unnest(%s::text[], %s::text[]) AS g (name, privilege)
            WHERE NOT CASE
                -- Of a column alone, as in UPDATE (name).
                WHEN privilege LIKE '%% (%%' THEN has_any_column_privilege(name, split_part(privilege, ' ', 1))
                ELSE has_table_privilege(name, privilege)
            END
            """,
            ([table for table, _ in needed], [privilege for _, privilege in needed]),
        )
        .fetchall()
    )
    if missing:
        role = connection.info.user
        raise ConfigurationError(
            f"the database role {role} lacks {', '.join(missing)}; "
            f"have the owner of the tables run: participants migrate --serving-role {role}"
        )
