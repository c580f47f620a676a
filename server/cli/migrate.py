"""`participants migrate`"""

from __future__ import annotations

import os

import click

from server.cli.database import conninfo_of
from server.cli.parameters import TEXT
from server.config import read_settings
from server.postgres.grants import grant
from server.postgres.migrations import migrate as migrate_schema
from server.postgres.session import connect


@click.command()
@click.option(
    "--serving-role", type=TEXT, metavar="ROLE", help="Grant this database role what `serve` needs, and no more."
)
def migrate(serving_role: str | None) -> None:
    """Bring the database's schema up to date. Running it twice, or two at once, is safe."""
    with conninfo_of(read_settings(os.environ)) as conninfo:
        migrate_schema(conninfo, report=click.echo)
        if serving_role is not None:
            with connect(conninfo) as connection:
                grant(connection, serving_role)
            click.echo(f"granted {serving_role} what serving needs")
