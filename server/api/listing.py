"""Between the messages of a list and the plain Python of the use case."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp
from participants.v1 import participant_service_pb2 as messages

from server.api.conversion import STATUS_NAMES, fill
from server.participants.listing import (
    GREATEST_TIME,
    LEAST_TIME,
    Filters,
    Listing,
    Page,
    listing,
    page_token,
)


def listing_from_request(request: messages.ListParticipantsRequest, organization_id: str) -> Listing:
    """Returns the page that a valid request asks for. Raises InvalidArgument for its page token."""
    filters = Filters(
        organization_id=organization_id,
        status=STATUS_NAMES[request.status],
        program_id=request.program_id.lower(),
        tag=request.tag.lower(),
        email=request.email,
        external_id_prefix=request.external_id_prefix,
        created_after=_microseconds(request.created_after) if request.HasField("created_after") else None,
        # Rounded up: what was created within the microsecond before the time is listed.
        created_before=_microseconds(request.created_before, up=True) if request.HasField("created_before") else None,
    )
    return listing(filters, request.order_by, request.page_size, request.page_token)


def list_response(asked: Listing, page: Page) -> messages.ListParticipantsResponse:
    """Returns the answer to ListParticipants."""
    response = messages.ListParticipantsResponse(next_page_token=page_token(asked, page.end) if page.end else "")
    for participant in page.participants:
        fill(response.participants.add(), participant)
    return response


def _microseconds(time: Timestamp, *, up: bool = False) -> int:
    microseconds = time.seconds * 1_000_000 + (time.nanos + (999 if up else 0)) // 1_000
    # A message can hold times of which neither Python nor Postgres knows; nothing was created then.
    return max(LEAST_TIME, min(microseconds, GREATEST_TIME))
