"""What a page of a list costs in blocks, at the start, in the middle and at the end, for each filter and order: with 5
million participants in 100 organizations, or as many as the first argument says."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from server.participants.listing import Filters, Listing, Position
from server.postgres import queries
from server.postgres.database import Database
from server.postgres.migrations import migrate
from server.postgres.prepared import Row
from server.postgres.queries.query import Query
from server.postgres.reading import PostgresReading
from server.postgres.session import SETTINGS
from tests.bench import postgres
from tests.bench.progress import progress

PARTICIPANTS, ORGANIZATIONS = 5_000_000, 100
PAGE_SIZE = 50
TARGET = 400
PROGRAM = "50000000-0000-0000-0000-000000000001"
ROWS_PER_INSERT = 500_000

Connection = psycopg.Connection[Any]

# Every organization has the same participants: a filter keeps from two to nine in ten, a prefix one in 16. They come in
# the order of their ids, as they do in life, and external_ids in none.
INSERT = """
WITH new AS (
    SELECT n, lpad((n %% {organizations})::text, 32, '0')::uuid AS organization_id,
        lpad(to_hex(n), 32, '0')::uuid AS id,
        timestamptz '2026-01-01' + n * interval '1 second' AS created_at, n / {organizations} AS m
    FROM generate_series(%(first)s::int, %(end)s::int - 1) AS n
),
inserted AS (
    INSERT INTO participants (organization_id, participant_id, external_id, status, display_name, email, attributes,
        tags, created_at, updated_at)
    SELECT organization_id, id, md5(n::text),
        CASE WHEN m %% 10 > 0 THEN 'ACTIVE' WHEN m %% 100 > 0 THEN 'SUSPENDED' ELSE 'CLOSED' END,
        'Participant ' || n, CASE WHEN m %% 50 = 0 THEN 'family@example.com' ELSE n || '@example.com' END,
        jsonb_build_object('plan', 'premium', 'number', n::text),
        CASE WHEN m %% 250 = 248 THEN ARRAY['rare'] WHEN m %% 5 = 0 THEN ARRAY['vip', 'beta']
            WHEN m %% 5 = 1 THEN ARRAY['beta'] ELSE '{{}}' END,
        created_at, created_at
    FROM new
)
INSERT INTO enrollments (organization_id, participant_id, program_id)
SELECT organization_id, id, '{program}' FROM new WHERE m %% 2 = 0
"""
LABELS = f"""
INSERT INTO participant_labels (organization_id, label, created_at, participant_id, external_id)
SELECT p.organization_id, 'tag:' || t.tag, p.created_at, p.participant_id, p.external_id
FROM participants AS p, unnest(p.tags) AS t (tag)
UNION ALL
SELECT p.organization_id, 'program:{PROGRAM}', p.created_at, p.participant_id, p.external_id
FROM participants AS p JOIN enrollments USING (organization_id, participant_id)
"""


@dataclass(frozen=True, slots=True)
class Case:
    """Filters as the use case has them, and as SQL that finds the position of a page."""

    name: str
    filters: dict[str, Any]
    condition: str


CASES = (
    Case("none", {}, "true"),
    Case("status ACTIVE", {"status": "ACTIVE"}, "status = 'ACTIVE'"),
    Case("status CLOSED", {"status": "CLOSED"}, "status = 'CLOSED'"),
    Case("program_id", {"program_id": PROGRAM}, "EXISTS (SELECT FROM enrollments AS e WHERE e.organization_id = "
         "p.organization_id AND e.participant_id = p.participant_id)"),
    Case("tag", {"tag": "vip"}, "'vip' = ANY (tags)"),
    Case("rare tag", {"tag": "rare"}, "'rare' = ANY (tags)"),
    Case("email", {"email": "family@example.com"}, "email = 'family@example.com'"),
    Case("external_id_prefix", {"external_id_prefix": "a"}, "external_id LIKE 'a%'"),
    Case("created_after", {"created_after": 1_767_312_000_000_000},
         "created_at > to_timestamp(1767312000)"),
    Case("rare tag, program_id", {"tag": "rare", "program_id": PROGRAM}, "'rare' = ANY (tags)"),
    Case("email, program_id", {"email": "family@example.com", "program_id": PROGRAM}, "email = 'family@example.com'"),
    Case("tag, status SUSPENDED", {"tag": "vip", "status": "SUSPENDED"}, "'vip' = ANY (tags) AND status = 'SUSPENDED'"),
    Case("tag, program_id, status", {"tag": "beta", "program_id": PROGRAM, "status": "ACTIVE"},
         "'beta' = ANY (tags) AND status = 'ACTIVE'"),
)  # fmt: skip


def main() -> None:
    """Prints the blocks that each page touches; the exit status is 1 when one touches more than TARGET."""
    participants = int(sys.argv[1]) if len(sys.argv) > 1 else PARTICIPANTS
    with postgres.postgres() as server, psycopg.connect(server.conninfo, autocommit=True) as admin:
        admin.execute("CREATE DATABASE lists")
        conninfo = make_conninfo(server.conninfo, dbname="lists")
        migrate(conninfo, report=lambda line: None)
        with psycopg.connect(conninfo, autocommit=True) as connection:
            fill(connection, participants)
            prepare(connection)
            worst = max(asyncio.run(measure(connection, case, order)) for case in CASES for order in ORDERS)
    print(f"{participants:,} participants: at most {worst} blocks a page of {PAGE_SIZE} (target: below {TARGET})")
    sys.exit(worst >= TARGET)


ORDERS = (("created_at", False), ("created_at", True), ("external_id", False), ("external_id", True))


def fill(connection: Connection, participants: int) -> None:
    connection.execute("SET session_replication_role = replica")
    insert = INSERT.format(organizations=ORGANIZATIONS, program=PROGRAM)
    for first in range(0, participants, ROWS_PER_INSERT):
        progress(f"creating participants: {first:,} of {participants:,}")
        connection.execute(insert.encode(), {"first": first, "end": min(first + ROWS_PER_INSERT, participants)})
    progress("labelling them")
    connection.execute(LABELS.encode())
    connection.execute("VACUUM (ANALYZE)")


def prepare(connection: Connection) -> None:
    for name, value in {**SETTINGS, "statement_timeout": "0"}.items():
        connection.execute("SELECT set_config(%s, %s, false)", (name, value))
    for query in queries.LIST.values():
        connection.execute(b"PREPARE " + query.name + b" AS " + query.text)


async def measure(connection: Connection, case: Case, order: tuple[str, bool]) -> int:
    """Prints what the first, a middle and the last page cost, and returns the most blocks."""
    costs = []
    for after in positions(connection, case, *order):
        database = Explaining(connection)
        listing = Listing(Filters(organization(7), **case.filters), *order, PAGE_SIZE, after)
        try:
            await PostgresReading(cast("Database", database)).list(listing)
        except Explained as explained:
            costs.append(explained)
    name = f"{order[0]}{' desc' if order[1] else ''}"
    figures = "  ".join(f"{cost.blocks:>4} blocks {cost.rows:>3} rows {cost.milliseconds:5.2f} ms" for cost in costs)
    print(f"{case.name:30} {name:16} {figures}", flush=True)
    return max(cost.blocks for cost in costs)


def organization(number: int) -> str:
    return f"00000000-0000-0000-0000-{number:012}"


def positions(connection: Connection, case: Case, order: str, descending: bool) -> Sequence[Position | None]:
    """Returns where the first page, a middle one and the last begin."""
    direction = "DESC" if descending else ""
    keys = "created_at DESC, participant_id DESC" if descending else "created_at, participant_id"
    ordered = keys if order == "created_at" else f"external_id {direction}"
    found = connection.execute(
        f"""
        SELECT (extract(epoch FROM created_at) * 1000000)::bigint, participant_id::text, external_id
        FROM participants AS p WHERE organization_id = '{organization(7)}' AND {case.condition} ORDER BY {ordered}
        """.encode()
    ).fetchall()
    return [None, Position(*found[len(found) // 2]), Position(*found[max(len(found) - PAGE_SIZE - 1, 0)])]


class Explained(Exception):
    """What a statement cost."""

    def __init__(self, plan: dict[str, Any]) -> None:
        super().__init__()
        self.blocks: int = plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"]
        self.milliseconds = plan["Execution Time"]
        self.rows = plan["Plan"]["Actual Rows"]


class Explaining:
    """A database that explains what it is to read."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def read(self, query: Query, *parameters: bytes | None) -> Sequence[Row]:
        values = [sql.Literal(None if value is None else value.decode()) for value in parameters]
        execute = sql.SQL("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE {} ({})").format(
            sql.Identifier(query.name.decode()), sql.SQL(", ").join(values)
        )
        row = self._connection.execute(execute).fetchone()
        assert row is not None
        plan = row[0] if isinstance(row[0], list) else json.loads(row[0])
        raise Explained(plan[0])


if __name__ == "__main__":
    main()
