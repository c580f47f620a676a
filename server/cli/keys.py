"""`participants keys`"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click

from server.cli.database import connection
from server.cli.output import print_list
from server.cli.parameters import DURATION, KEY_NAME, NAME, TEXT
from server.errors import CommandError
from server.postgres import administration
from server.postgres.administration import KeyEnded, ListedKey, NoSuchKey


@click.group()
def keys() -> None:
    """Create, list, rotate and revoke API keys."""


@keys.command()
@click.option("--organization", required=True, type=NAME, help="Whose key it is; made if there is none of that name.")
@click.option("--name", type=KEY_NAME, default="", help="What the key is for.")
@click.option("--expires-in-days", type=click.IntRange(1, 36_500), help="Without this, the key never expires.")
def create(organization: str, name: str, expires_in_days: int | None) -> None:
    """Make a key and print it.

    It is shown once: only a hash of it is stored.
    """
    expires_at = None if expires_in_days is None else datetime.now(UTC) + timedelta(days=expires_in_days)
    with connection() as opened:
        key_id, key = administration.create_key(opened, organization, name, expires_at)
    click.echo(key)
    click.echo(f"key {key_id} of {organization}; it is not shown again", err=True)


@keys.command("list")
@click.option("--organization", type=NAME, help="Only this organization's keys.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def list_keys(organization: str | None, as_json: bool) -> None:
    """List keys, oldest first.

    The keys themselves are not stored, and cannot be shown.
    """
    with connection() as opened:
        print_list(administration.list_keys(opened, organization), ListedKey, as_json=as_json)


@keys.command()
@click.argument("key_id", type=TEXT)
@click.option("--overlap", required=True, type=DURATION, help="How long the old key works beside the new: 24h, 7d, 0s.")
def rotate(key_id: str, overlap: timedelta) -> None:
    """Make a key to replace the one with this id, and print it.

    It is shown once. The old key works until the overlap is over. The new key has the organization and the name of the
    old one, and lives as long, if the old one was made to expire.
    """
    with connection() as opened:
        try:
            rotation = administration.rotate_key(opened, key_id, overlap)
        except NoSuchKey:
            raise _no_such_key(key_id) from None
        except KeyEnded:
            raise CommandError(
                f"the key {key_id} is revoked or expired; make one with: participants keys create"
            ) from None
    click.echo(rotation.key)
    click.echo(
        f"key {rotation.key_id} of {rotation.organization}; it is not shown again; "
        f"{key_id} works until {rotation.expires_at:%Y-%m-%dT%H:%M:%SZ}",
        err=True,
    )


@keys.command()
@click.argument("key_id", type=TEXT)
def revoke(key_id: str) -> None:
    """Revoke the key with this id, as `keys list` shows it.

    It stops working within 10 seconds.
    """
    with connection() as opened:
        if not administration.revoke_key(opened, key_id):
            raise _no_such_key(key_id)
    click.echo(f"revoked {key_id}")


def _no_such_key(key_id: str) -> CommandError:
    return CommandError(f"there is no key with the id {key_id!r}; see: participants keys list")
