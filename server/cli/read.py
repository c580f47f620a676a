"""`participants list` and `participants get`"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any

import click
from google.protobuf.timestamp_pb2 import Timestamp
from participants.v1.participant_pb2 import Participant
from participants.v1.participant_service_pb2 import ListParticipantsRequest

from server.cli.output import print_json, print_table
from server.cli.parameters import TEXT, TIME
from server.cli.service import running_service
from server.config import read_settings
from server.gateway.encoding import MessageEncoder
from server.participants.listing import MAX_PAGE_SIZE

COLUMNS = ("id", "external_id", "status", "display_name", "email", "tags", "created_at")
ORDERS = ("created_at", "created_at desc", "external_id", "external_id desc")

_encoder = MessageEncoder(Participant.DESCRIPTOR)


@click.command("list")
@click.option("--status", type=click.Choice(Participant.Status.keys()[1:]), help="Only these.")
@click.option("--program-id", type=TEXT, help="Only who is enrolled in this program.")
@click.option("--tag", type=TEXT, help="Only who has this tag.")
@click.option("--email", type=TEXT, help="Only who has exactly this e-mail address.")
@click.option("--external-id-prefix", type=TEXT, help="Only those whose external_id begins with this.")
@click.option("--created-after", type=TIME, help="Only those created later, such as 2026-01-31T08:00:00Z.")
@click.option("--created-before", type=TIME, help="Only those created earlier.")
@click.option(
    "--order-by", type=click.Choice(ORDERS), help="By default created_at, and external_id with --external-id-prefix."
)
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="How many at most.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def list_participants(limit: int, as_json: bool, **filters: Any) -> None:
    """List the participants that pass all filters.

    They are those of the organization of the key that is sent: PARTICIPANTS_API_KEY or, where that is unset, the
    development key. `participants export` writes all of them, however many there are.
    """
    if filters["external_id_prefix"] and not filters["order_by"]:
        # In any other order everybody would be looked at.
        filters["order_by"] = "external_id"
    # The larger a page, the more it looks at to find who passes.
    request = ListParticipantsRequest(page_size=MAX_PAGE_SIZE, **_given(filters))
    with running_service(read_settings(os.environ)) as service:
        # One more than is shown tells whether there are more.
        found = list(islice((each for page in service.pages(request, ()) for each in page.participants), limit + 1))
    values = [_encoder.value(participant) for participant in found[:limit]]
    if as_json:
        print_json(values)
    else:
        heading = [column.upper() for column in COLUMNS]
        print_table([heading, *([value.get(column) for column in COLUMNS] for value in values)])
    if len(found) > limit:
        click.echo(f"these are the first {limit}; there are more", err=True)


def _given(filters: dict[str, Any]) -> dict[str, Any]:
    return {name: _as_field(value) for name, value in filters.items() if value is not None}


def _as_field(value: Any) -> Any:
    if not isinstance(value, datetime):
        return value
    timestamp = Timestamp()
    timestamp.FromDatetime(value)
    return timestamp


@click.command()
@click.argument("participant_id", type=TEXT, metavar="ID", required=False)
@click.option("--external-id", type=TEXT, help="Your own identifier of the participant, instead of ID.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
def get(participant_id: str | None, external_id: str | None, as_json: bool) -> None:
    """Show one participant, by its ID or by --external-id."""
    if (participant_id is None) == (external_id is None):
        raise click.UsageError("either ID or --external-id must be given")
    with running_service(read_settings(os.environ)) as service:
        found = service.look_up(external_id) if external_id is not None else service.get(participant_id or "")
    value = _encoder.value(found)
    if as_json:
        print_json(value)
    else:
        print_table(list(_lines(value)))


def _lines(value: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields each field with its value; one line for each attribute, counter and tier."""
    for name, item in value.items():
        if isinstance(item, dict) and item:
            yield from _lines(item, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", item
