"""FastAPI and asyncpg on uvicorn, with the same statement: the peer over HTTP."""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Any, Literal
from uuid import UUID

import asyncpg
import orjson
import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from psycopg.conninfo import conninfo_to_dict
from pydantic import BaseModel, ConfigDict, StringConstraints
from uuid_utils import uuid7

from tests.bench.systems.statement import numbered

# Of 4, 8, 16 and 32, tried on 2 cores with 32 and 128 callers, none was clearly better, and 16 was worse.
POOL_SIZE = 8
SQL, NAMES = numbered()

Text = Annotated[str, StringConstraints(max_length=255)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Value = Annotated[str, StringConstraints(max_length=4096)]
Status = Literal["ACTIVE", "SUSPENDED", "CLOSED"]


class ParticipantIn(BaseModel):
    """What a caller sends."""

    model_config = ConfigDict(extra="forbid")

    external_id: Label
    display_name: Text | None = None
    email: Text | None = None
    first_name: Text | None = None
    last_name: Text | None = None
    phone: Annotated[str, StringConstraints(max_length=50)] | None = None
    program_id: UUID | None = None
    status: Status | None = None
    attributes: dict[Label, Value] = {}
    tags: list[Label] = []


class ParticipantOut(BaseModel):
    """What a caller gets."""

    id: str
    external_id: str
    status: Status
    display_name: str | None
    email: str | None
    first_name: str | None
    last_name: str | None
    phone: str | None
    attributes: dict[str, str]
    tags: list[str]
    program_ids: list[str] = []
    counters: dict[str, str] = {}
    balances: list[dict[str, str]] = []
    tiers: dict[str, dict[str, str | int]] = {}
    created_at: datetime
    updated_at: datetime


async def set_up(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=lambda value: orjson.dumps(value).decode(), decoder=orjson.loads
    )


@asynccontextmanager
async def lifespan(application: FastAPI) -> AsyncIterator[None]:
    conninfo = conninfo_to_dict(sys.argv[1])
    async with asyncpg.create_pool(
        host=conninfo["host"],
        user=conninfo["user"],
        database=conninfo["dbname"],
        min_size=POOL_SIZE,
        max_size=POOL_SIZE,
        init=set_up,
    ) as pool:
        application.state.pool = pool
        rows = await pool.fetch("SELECT digest, organization_id FROM api_keys")
        application.state.organizations = {row["digest"]: row["organization_id"] for row in rows}
        yield


application = FastAPI(lifespan=lifespan)


async def organization(request: Request, x_api_key: Annotated[str, Header()]) -> Any:
    organizations = request.app.state.organizations
    organization_id = organizations.get(sha256(x_api_key.encode()).digest())
    if organization_id is None:
        raise HTTPException(401, "the API key is not valid")
    return organization_id


@application.post("/v1/participants")
async def create_participant(
    participant: ParticipantIn,
    request: Request,
    response: Response,
    organization_id: Annotated[Any, Depends(organization)],
) -> ParticipantOut:
    values = {"organization_id": organization_id, "participant_id": uuid7(), **participant.__dict__}
    row = await request.app.state.pool.fetchrow(SQL, *[values[name] for name in NAMES])
    if row["created"]:
        response.status_code = 201
    return ParticipantOut(
        id=row["participant_id"],
        external_id=row["external_id"],
        status=row["status"],
        display_name=row["display_name"],
        email=row["email"],
        first_name=row["first_name"],
        last_name=row["last_name"],
        phone=row["phone"],
        attributes=row["attributes"],
        tags=row["tags"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    print(f"127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(application, loop="uvloop", http="httptools", access_log=False, log_level="warning")
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
