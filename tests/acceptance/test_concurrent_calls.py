"""As many calls as a connection may have at once, and another as soon as one has its answer, as proxies make them."""

from uuid import uuid4

from participants.v1 import participant_service_pb2 as messages

from server.rpc.request_message import MAX_CALLS
from tests.bench.http2 import ACK, END_STREAM, Type, frame
from tests.conftest import Deployment
from tests.hostile.grpc_wire import SERVICE, Wire

CALLS = 2_000


def test_none_is_refused(deployment: Deployment) -> None:
    request = messages.GetParticipantRequest(id=str(uuid4())).SerializeToString()

    with Wire(deployment.service.grpc_address) as wire:

        def call() -> None:
            stream = wire.call(f"{SERVICE}/GetParticipant", [("x-api-key", deployment.tenant.key)])
            wire.message(stream, request)

        wire.send(frame(Type.SETTINGS, ACK, 0))
        for _ in range(MAX_CALLS):
            call()
        answered = refused = 0
        while answered + refused < CALLS:
            kind, flags, _, _ = wire.next_frame()
            if kind == Type.RST_STREAM:
                refused += 1
            elif kind == Type.HEADERS and flags & END_STREAM:
                answered += 1
            else:
                continue
            call()
    assert refused == 0
