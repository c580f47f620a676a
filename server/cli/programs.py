"""`participants programs`"""

from __future__ import annotations

import click

from server.cli.database import connection
from server.cli.output import print_list
from server.cli.parameters import NAME
from server.errors import CommandError
from server.postgres import administration
from server.postgres.administration import ListedProgram, NameTaken, NoSuchOrganization


@click.group()
def programs() -> None:
    """Create and list the programs of organizations."""


@programs.command()
@click.option("--organization", required=True, type=NAME, help="Whose program it is.")
@click.argument("name", type=NAME)
def create(organization: str, name: str) -> None:
    """Make a program called NAME and print its id."""
    with connection() as opened:
        try:
            click.echo(administration.create_program(opened, organization, name))
        except NoSuchOrganization:
            raise CommandError(
                f"there is no organization {organization!r}; `participants keys create` makes one"
            ) from None
        except NameTaken:
            raise CommandError(f"{organization!r} already has a program {name!r}") from None


@programs.command("list")
@click.option("--organization", type=NAME, help="Only this organization's programs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def list_programs(organization: str | None, as_json: bool) -> None:
    """List programs, oldest first."""
    with connection() as opened:
        print_list(administration.list_programs(opened, organization), ListedProgram, as_json=as_json)
