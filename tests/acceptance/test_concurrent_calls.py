"""As many calls as a connection may have at once, and another as soon as one has its answer, as proxies make them."""

from uuid import uuid4

from participants.v1 import participant_service_pb2 as messages

from server.rpc.receiving import MAX_CALLS
from tests.bench.http2 import ACK, END_STREAM, Type, frame
from tests.conftest import Deployment
from tests.hostile.grpc_wire import SERVICE, Wire

CALLS = 2_000


def test_none_is_refused(deployment: Deployment) -> None:
    request = messages.GetParticipantRequest(id=str(uuid4())).SerializeToString()

    with Wire(deployment.service.grpc_address) as wire:

        def call() -> int:
            stream = wire.call(f"{SERVICE}/GetParticipant", [("x-api-key", deployment.tenant.key)])
            wire.message(stream, request)
            return stream

        wire.send(frame(Type.SETTINGS, ACK, 0))
        under_way, refused = {call() for _ in range(MAX_CALLS)}, 0
        for _ in range(CALLS):
            stream = 0
            while stream not in under_way:
                kind, flags, stream, _ = wire.next_frame()
                refused += kind == Type.RST_STREAM
                if not (kind == Type.RST_STREAM or (kind == Type.HEADERS and flags & END_STREAM)):
                    stream = 0
            under_way.remove(stream)
            under_way.add(call())
    assert refused == 0
