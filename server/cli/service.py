"""The running service, as a command that is a client of it sees it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc
from participants.v1 import participant_pb2
from participants.v1 import participant_service_pb2 as messages
from participants.v1.participant_service_pb2_grpc import ParticipantServiceStub

from server.client import CALL_TIMEOUT, PAUSES, RETRIED, open_aio_channel, open_channel
from server.config import DEVELOPMENT_KEY_FILE, Settings
from server.errors import CommandError


def api_key(settings: Settings) -> str:
    """Returns the key to send: PARTICIPANTS_API_KEY, or the one that a first start made. Raises CommandError."""
    if settings.api_key:
        return settings.api_key
    development_key = _development_key(settings.data_directory) if settings.database_url is None else None
    if development_key is None:
        raise CommandError(
            "there is no API key to send; set PARTICIPANTS_API_KEY: `participants keys create` makes one"
        )
    return development_key


def _development_key(data_directory: Path) -> str | None:
    file = data_directory / DEVELOPMENT_KEY_FILE
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CommandError(f"{file} cannot be read ({error.strerror}); set PARTICIPANTS_API_KEY") from None


@asynccontextmanager
async def connected_channel(settings: Settings) -> AsyncIterator[grpc.aio.Channel]:
    """Yields a channel once there is a connection. Later the service may be away for a while, but a wrong address is a
    CommandError now."""
    address = str(settings.grpc_address.reachable())
    async with open_aio_channel(settings) as channel:
        state = channel.get_state(try_to_connect=True)
        while state is not grpc.ChannelConnectivity.READY:
            if state is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                raise CommandError(
                    f"no service answers at {address}; see PARTICIPANTS_GRPC_ADDRESS and PARTICIPANTS_TLS_CA_FILE"
                )
            await channel.wait_for_state_change(state)
            state = channel.get_state()
        yield channel


class Service:
    """Reads participants. What the service refuses, or cannot do for a while, is a CommandError."""

    def __init__(self, stub: ParticipantServiceStub, key: str) -> None:
        self._stub: Any = stub
        self._metadata = (("x-api-key", key),)

    def get(self, participant_id: str) -> participant_pb2.Participant:
        """Returns the participant with this id."""
        request = messages.GetParticipantRequest(id=participant_id)
        response: messages.GetParticipantResponse = self._call(self._stub.GetParticipant, request)
        return response.participant

    def look_up(self, external_id: str) -> participant_pb2.Participant:
        """Returns the participant with this external_id."""
        request = messages.LookupParticipantRequest(external_id=external_id)
        response: messages.LookupParticipantResponse = self._call(self._stub.LookupParticipant, request)
        return response.participant

    def pages(
        self, request: messages.ListParticipantsRequest, pauses: Sequence[float] = PAUSES
    ) -> Iterator[messages.ListParticipantsResponse]:
        """Yields the pages of a list; `request` is changed on the way."""
        while True:
            page: messages.ListParticipantsResponse = self._call(self._stub.ListParticipants, request, pauses)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def _call(self, method: Callable[..., Any], request: Any, pauses: Sequence[float] = ()) -> Any:
        """Calls, and calls again after each pause while the service may be able to answer later."""
        for pause in (*pauses, None):
            try:
                return method(request, metadata=self._metadata, timeout=CALL_TIMEOUT)
            except grpc.RpcError as error:
                if pause is None or error.code().value[0] not in RETRIED:
                    raise CommandError(f"{error.code().name}: {error.details()}") from None
                time.sleep(pause)
        return None


@contextmanager
def running_service(settings: Settings) -> Iterator[Service]:
    """Yields the service at PARTICIPANTS_GRPC_ADDRESS."""
    key = api_key(settings)
    with open_channel(settings) as channel:
        yield Service(ParticipantServiceStub(channel), key)
