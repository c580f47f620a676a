"""`participants migrate`"""

from __future__ import annotations

import os

import click

from server.config import read_settings
from server.postgres import migrations
from server.postgres.embedded import embedded_postgres


@click.command()
def migrate() -> None:
    """Bring the database's schema up to date. Running it twice, or two at once, is safe."""
    settings = read_settings(os.environ)
    if settings.database_url is not None:
        migrations.migrate(settings.database_url, report=click.echo)
    else:
        with embedded_postgres(settings.data_directory) as conninfo:
            migrations.migrate(conninfo, report=click.echo)
