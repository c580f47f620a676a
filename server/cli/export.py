"""`participants export`"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import click
import orjson
from participants.v1.participant_pb2 import Participant
from participants.v1.participant_service_pb2 import CreateParticipantRequest, ListParticipantsRequest

from server.cli.service import running_service
from server.config import read_settings
from server.gateway.encoding import MessageEncoder
from server.importer.progress import Counts, Meter
from server.participants.listing import MAX_PAGE_SIZE

EXPORTED = "EXPORTED"

_encoder = MessageEncoder(Participant.DESCRIPTOR)
_FIELDS = CreateParticipantRequest.DESCRIPTOR.fields_by_name


@click.command()
def export() -> None:
    """Print all participants as JSON Lines.

    They are those of the organization of the key that is sent: PARTICIPANTS_API_KEY or, where that is unset, the
    development key. The oldest comes first, and `participants import` takes what is printed. It gives them new ids and
    times, and the programs that they are enrolled in must exist. Counters, balances and tiers, which cannot be
    imported, are left out. A participant in several programs has one line more for each.
    """
    settings = read_settings(os.environ)
    counts = Counts(EXPORTED)
    meter = Meter(counts, None)
    request = ListParticipantsRequest(page_size=MAX_PAGE_SIZE)
    with running_service(settings) as service:
        for page in service.pages(request):
            for participant in page.participants:
                sys.stdout.buffer.writelines(orjson.dumps(row) + b"\n" for row in _rows(participant))
                counts.add(EXPORTED)
            meter.update(0)
    sys.stdout.buffer.flush()
    click.echo(f"{counts} ({counts.rate:,.0f} participants/s)", err=True)


def _rows(participant: Participant) -> Iterator[dict[str, Any]]:
    """Yields the bodies of the CreateParticipant calls that make this participant again."""
    value = _encoder.value(participant)
    first, *others = value["program_ids"] or [None]
    row = {name: item for name, item in value.items() if name in _FIELDS}
    yield row if first is None else {**row, "program_id": first}
    for program_id in others:
        yield {"external_id": value["external_id"], "program_id": program_id}
