"""Between the messages that change a participant and the plain Python of the use case."""

from __future__ import annotations

from typing import Any

from participants.v1 import participant_service_pb2 as messages

from server.api.conversion import STATUS_NAMES
from server.participants.model import Update


def update_from_request(request: messages.UpdateParticipantRequest, organization_id: str) -> Update:
    """Returns what a valid request asks to be changed."""
    return Update(
        organization_id=organization_id,
        participant_id=request.id.lower(),
        external_id=request.external_id,
        display_name=_given(request, "display_name"),
        email=_given(request, "email"),
        first_name=_given(request, "first_name"),
        last_name=_given(request, "last_name"),
        phone=_given(request, "phone"),
        attributes=dict(request.attributes),
        remove_attributes=request.remove_attributes[:],
        tags=request.tags[:],
        add_tags=request.add_tags[:],
        remove_tags=request.remove_tags[:],
        etag=request.etag,
    )


def update_from_status_request(request: messages.SetParticipantStatusRequest, organization_id: str) -> Update:
    """Returns what a valid request asks to be changed."""
    return Update(
        organization_id=organization_id,
        participant_id=request.id.lower(),
        status=STATUS_NAMES[request.status],
        etag=request.etag,
    )


def _given(request: messages.UpdateParticipantRequest, field: Any) -> str | None:
    """Returns a profile field, None where it was not sent."""
    value: str = getattr(request, field)
    return value if request.HasField(field) else None
