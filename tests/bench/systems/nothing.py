"""A servicer on grpcio that does nothing but parse the request and answer with a filled participant: what a call
costs before any work is done.

It is on one server, as one writes it, or on as many as it is told, which share a port and wake the event loop as this
service has it.
"""

from __future__ import annotations

import sys
from typing import Any

import grpc
import uvloop
from google.protobuf import json_format
from participants.v1.participant_service_pb2 import CreateParticipantRequest, CreateParticipantResponse
from participants.v1.participant_service_pb2_grpc import ParticipantServiceServicer

from server.rpc.wakeups import read_all_at_once
from tests.bench import workload
from tests.bench.systems.process import serve_grpc

ANSWER = json_format.ParseDict(
    {
        "participant": {
            **workload.fields("user-0000000", "0000000000"),
            "id": "0197f2a0-5f5e-7b6e-8b5c-0123456789ab",
            "status": "ACTIVE",
            "created_at": "2026-01-01T00:00:00.123456Z",
            "updated_at": "2026-01-01T00:00:00.123456Z",
        },
        "result": "UPDATED",
    },
    CreateParticipantResponse(),
)


class Servicer(ParticipantServiceServicer):
    """Answers every upsert alike."""

    async def CreateParticipant(
        self, request: CreateParticipantRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> CreateParticipantResponse:
        return ANSWER


async def main(servers: int) -> None:
    if servers > 1:
        read_all_at_once()
    await serve_grpc(Servicer(), servers)  # type: ignore[abstract]  # nobody calls the other methods


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
