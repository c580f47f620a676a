"""The command `participants`."""

from __future__ import annotations

import gc
import sys

import click
import psycopg

from server.cli.health import health
from server.cli.imports import import_file
from server.cli.keys import keys
from server.cli.programs import programs
from server.cli.schema import migrate
from server.cli.serve import serve
from server.config import ConfigurationError
from server.logs import set_up_logs


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def participants() -> None:
    """The participant service: create a participant, or update it if its external_id exists.

    Settings come from the environment; the README lists them.
    """


for command in (serve, migrate, keys, programs, import_file, health):
    participants.add_command(command)


def main() -> None:
    """Runs the command. What goes wrong is one line on standard error, and exit status 1; wrong usage is 2."""
    set_up_logs()
    # What is imported by now stays: the garbage collector need not look through it, neither now nor in the end.
    gc.freeze()
    try:
        participants(prog_name="participants")
    except ConfigurationError as error:
        sys.exit(f"participants: {error}")
    except psycopg.errors.UndefinedTable:
        sys.exit("participants: the database has no schema yet; run: participants migrate")
    except psycopg.OperationalError as error:
        # libpq's text can hold the host and user, never the password; its first line says what happened.
        first = str(error).strip().splitlines()[0]
        sys.exit(f"participants: cannot reach the database: {first}; check DATABASE_URL")
