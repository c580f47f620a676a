"""The same servicer writing one statement a request, with pooled psycopg: how one would write this service."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any

import grpc
import orjson
import psycopg
import uvloop
from google.protobuf.timestamp_pb2 import Timestamp
from participants.v1.participant_pb2 import Participant
from participants.v1.participant_service_pb2 import CreateParticipantRequest, CreateParticipantResponse
from participants.v1.participant_service_pb2_grpc import ParticipantServiceServicer
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb, set_json_dumps, set_json_loads
from psycopg_pool import AsyncConnectionPool
from uuid_utils import uuid7

from tests.bench.systems.process import serve_grpc
from tests.bench.systems.statement import UPSERT

# Of 4, 8, 16 and 32, tried on 2 cores with 32 and 128 callers, none was clearly better, and 16 was worse.
POOL_SIZE = 8
_UPSERT = UPSERT.encode()


class Servicer(ParticipantServiceServicer):
    """Answers upserts, each from a statement of its own. `organizations` are by the digests of their keys."""

    def __init__(self, pool: AsyncConnectionPool, organizations: dict[bytes, str]) -> None:
        self._pool = pool
        self._organizations = organizations

    async def CreateParticipant(
        self, request: CreateParticipantRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> CreateParticipantResponse:
        organization_id = self._organization_id(context)
        if organization_id is None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the API key is not valid")
        async with self._pool.connection() as connection:
            cursor = await connection.execute(_UPSERT, parameters(request, organization_id), prepare=True, binary=True)
            row = await cursor.fetchone()
        assert row is not None
        return response(row)

    def _organization_id(self, context: grpc.aio.ServicerContext[Any, Any]) -> str | None:
        for name, value in context.invocation_metadata() or ():
            if name == "x-api-key" and isinstance(value, str):
                return self._organizations.get(sha256(value.encode()).digest())
        return None


def parameters(request: CreateParticipantRequest, organization_id: str) -> dict[str, Any]:
    has = request.HasField
    return {
        "organization_id": organization_id,
        "participant_id": str(uuid7()),
        "external_id": request.external_id,
        "status": Participant.Status.Name(request.status) if request.status else None,
        "display_name": request.display_name if has("display_name") else None,
        "email": request.email if has("email") else None,
        "first_name": request.first_name if has("first_name") else None,
        "last_name": request.last_name if has("last_name") else None,
        "phone": request.phone if has("phone") else None,
        "attributes": Jsonb(dict(request.attributes)),
        "tags": list(request.tags),
    }


def response(row: Sequence[Any]) -> CreateParticipantResponse:
    (
        participant_id, external_id, status, display_name, email, first_name, last_name, phone, attributes, tags,
        created_at, updated_at, created,
    ) = row  # fmt: skip
    participant = Participant(
        id=participant_id,
        external_id=external_id,
        status=status,
        display_name=display_name,
        email=email,
        first_name=first_name,
        last_name=last_name,
        phone=phone,
        attributes=attributes,
        tags=tags,
        created_at=timestamp(created_at),
        updated_at=timestamp(updated_at),
    )
    result = CreateParticipantResponse.CREATED if created else CreateParticipantResponse.UPDATED
    return CreateParticipantResponse(participant=participant, result=result)


def timestamp(moment: datetime) -> Timestamp:
    return Timestamp(seconds=int(moment.timestamp()), nanos=moment.microsecond * 1000)


async def configure(connection: AsyncConnection) -> None:
    set_json_dumps(orjson.dumps, connection)
    set_json_loads(orjson.loads, connection)


async def main(conninfo: str) -> None:
    with psycopg.connect(conninfo) as connection:
        rows = connection.execute("SELECT digest, organization_id::text FROM api_keys").fetchall()
    pool = AsyncConnectionPool(
        conninfo, kwargs={"autocommit": True}, min_size=POOL_SIZE, max_size=POOL_SIZE, configure=configure, open=False
    )
    async with pool:
        await pool.wait()
        await serve_grpc(Servicer(pool, dict(rows)))  # type: ignore[abstract]  # nobody calls the other methods


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
