"""The command `participants`."""

from __future__ import annotations

import sys
from importlib import import_module

import click

from server.config import ConfigurationError
from server.errors import CommandError
from server.imports import imports_that_stay
from server.operations.logs import set_up_logs
from server.parts import PartFailed

# A command is imported when it is used: a health probe needs none of what serves.
COMMANDS = {
    "serve": "server.cli.serve:serve",
    "migrate": "server.cli.migrate:migrate",
    "keys": "server.cli.keys:keys",
    "programs": "server.cli.programs:programs",
    "list": "server.cli.read:list_participants",
    "get": "server.cli.read:get",
    "export": "server.cli.export:export",
    "import": "server.cli.bulk_import:import_file",
    "health": "server.cli.health:health",
    "protos": "server.cli.protos:protos",
}


class Commands(click.Group):
    """The group of COMMANDS."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's signature
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name].split(":")
        with imports_that_stay():
            command: click.Command = getattr(import_module(module), name)
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="participants-server", prog_name="participants")
def participants() -> None:
    """The participant service: create a participant, or update it if its external_id exists.

    Settings come from the environment; the README lists them.
    """


def main() -> None:
    """Runs the command. What goes wrong is one line on standard error, and exit status 1; wrong usage is 2."""
    set_up_logs()
    try:
        participants(prog_name="participants")
    except (CommandError, ConfigurationError, PartFailed) as error:
        sys.exit(f"participants: {error}")
    except Exception as error:
        # Only now, as it imports the driver, which commands that ask the service do without.
        from server.cli.advice import advice  # noqa: PLC0415

        line = advice(error)
        if line is None:
            raise
        sys.exit(f"participants: {line}")
