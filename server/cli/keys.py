"""`participants keys`"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click

from server.cli.database import connection
from server.cli.output import print_list
from server.cli.parameters import NAME
from server.config import ConfigurationError
from server.postgres import administration
from server.postgres.administration import ListedKey


@click.group()
def keys() -> None:
    """Create, list and revoke API keys."""


@keys.command()
@click.option("--organization", required=True, type=NAME, help="Whose key it is; made if there is none of that name.")
@click.option("--name", default="", help="What the key is for, to tell keys apart.")
@click.option("--expires-in-days", type=click.IntRange(1, 36_500), help="Without this, the key never expires.")
def create(organization: str, name: str, expires_in_days: int | None) -> None:
    """Make a key and print it. It is shown once: only a hash of it is stored."""
    expires_at = None if expires_in_days is None else datetime.now(UTC) + timedelta(days=expires_in_days)
    with connection() as opened:
        key_id, key = administration.create_key(opened, organization, name, expires_at)
    click.echo(key)
    click.echo(f"key {key_id} of {organization}; it is not shown again", err=True)


@keys.command("list")
@click.option("--organization", type=NAME, help="Only this organization's keys.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def list_keys(organization: str | None, as_json: bool) -> None:
    """List keys, oldest first; the keys themselves are not stored and cannot be shown."""
    with connection() as opened:
        print_list(administration.list_keys(opened, organization), ListedKey, as_json=as_json)


@keys.command()
@click.argument("key_id")
def revoke(key_id: str) -> None:
    """Revoke the key with this id, as `keys list` shows it. It stops working within 10 seconds."""
    with connection() as opened:
        if not administration.revoke_key(opened, key_id):
            raise ConfigurationError(f"there is no key with the id {key_id!r}; see: participants keys list")
    click.echo(f"revoked {key_id}")
