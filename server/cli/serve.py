"""`participants serve`"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial

import click
import uvloop

from server import quickstart
from server.cli.database import database
from server.config import MAX_WORKERS, Conninfo, Settings, read_database_url, read_settings
from server.imports import imports_that_stay
from server.operations.logs import set_up_logs
from server.postgres import preflight
from server.postgres.administration import ensure_organization
from server.postgres.session import connect
from server.sockets import Listening
from server.supervisor import supervise


@click.command()
@click.option("--workers", type=click.IntRange(1, MAX_WORKERS), help="Processes that share both ports.")
def serve(workers: int | None) -> None:
    """Run the service until it is interrupted.

    It accepts the keys that `participants keys create` makes and, where PARTICIPANTS_API_KEY is set, that key for the
    organization `default`.
    """
    settings = read_settings(os.environ)
    if workers is not None:
        settings = replace(settings, workers=workers)
    set_up_logs(settings.log_format)
    with database(settings) as conninfo:
        if settings.database_url is not None:
            preflight.check(conninfo)
        key = quickstart.prepare(conninfo, settings.data_directory) if settings.database_url is None else None
        organization_id = _fixed_organization(settings, conninfo)

        def ready(listening: Listening) -> None:
            http = f" and HTTP on {listening.http}" if listening.http else ""
            click.echo(f"serving gRPC on {listening.grpc}{http}")
            if listening.operations is not None:
                click.echo(f"serving operators on {listening.operations}")
            if key is not None:
                calls = quickstart.first_calls(key, listening.grpc, listening.http, settings.tls)
                click.echo(f"\nTry it in another terminal:\n\n{calls}\n")

        source = _source(settings, conninfo)
        if settings.workers > 1:
            supervise(settings, source, organization_id, ready)
        else:
            # Only now, as it takes most of the time of a start: what is refused is refused sooner.
            with imports_that_stay():
                from server import app  # noqa: PLC0415

            uvloop.run(app.serve(settings, source, organization_id, ready))


def _source(settings: Settings, conninfo: str) -> Conninfo:
    """Returns how to connect from now on: the file is read for every new connection, as a password may be rotated."""
    file = settings.database_url_file
    return conninfo if file is None else partial(read_database_url, file)


def _fixed_organization(settings: Settings, conninfo: str) -> str | None:
    if settings.api_key is None:
        return None
    with connect(conninfo) as connection:
        return ensure_organization(connection, quickstart.ORGANIZATION)
