"""Sends rows in batches, several in flight, in an order that keeps rows of one participant in theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import grpc
from participants.v1 import participant_service_pb2 as messages
from participants.v1.participant_service_pb2_grpc import ParticipantServiceStub

from server.config import ConfigurationError
from server.errors import Code
from server.importer.rows import Row

# A participant's rows all go through one lane, one batch after the other; the lanes are independent.
LANES = 4
BATCH_ROWS = 500
BATCH_BYTES = 2 << 20
CALL_TIMEOUT = 60.0
# What the service may be able to take later is sent again, after pauses that add up to more than a failover takes.
RETRIED = {Code.UNAVAILABLE.number, Code.RESOURCE_EXHAUSTED.number, Code.ABORTED.number, Code.DEADLINE_EXCEEDED.number}
PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, 8.0)

_RESULTS = messages.CreateParticipantResponse.Result

# Told of a row and what became of it: CREATED, UPDATED, UNCHANGED, or REJECTED and why.
Report = Callable[[Row, str, str], None]
REJECTED = "REJECTED"


@dataclass(slots=True)
class _Lane:
    batches: asyncio.Queue[list[Row] | None] = field(default_factory=lambda: asyncio.Queue(maxsize=1))
    filling: list[Row] = field(default_factory=list)
    size: int = 0


class Sender:
    """Sends rows to a running service."""

    def __init__(self, stub: ParticipantServiceStub, key: str, report: Report) -> None:
        self._stub: Any = stub
        self._metadata = (("x-api-key", key),)
        self._report = report

    async def send(self, rows: Iterable[Row]) -> None:
        """Sends all rows and returns when each has been reported. At most a few batches are held at a time.

        Raises ConfigurationError when the service does not let the caller in, or stays away.
        """
        lanes = [_Lane() for _ in range(LANES)]
        try:
            async with asyncio.TaskGroup() as group:
                for lane in lanes:
                    group.create_task(self._drain(lane))
                await self._distribute(rows, lanes)
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _distribute(self, rows: Iterable[Row], lanes: Sequence[_Lane]) -> None:
        for row in rows:
            if row.problem:
                self._report(row, REJECTED, row.problem)
            else:
                await self._add(lanes[crc32(row.request.external_id.encode()) % LANES], row)
        for lane in lanes:
            if lane.filling:
                await lane.batches.put(lane.filling)
            await lane.batches.put(None)

    async def _add(self, lane: _Lane, row: Row) -> None:
        lane.filling.append(row)
        lane.size += row.request.ByteSize()
        if len(lane.filling) >= BATCH_ROWS or lane.size >= BATCH_BYTES:
            await lane.batches.put(lane.filling)
            lane.filling, lane.size = [], 0

    async def _drain(self, lane: _Lane) -> None:
        while (batch := await lane.batches.get()) is not None:
            for pause in (*PAUSES, None):
                batch, problem = await self._send_once(batch)
                if not batch:
                    break
                if pause is None:
                    raise ConfigurationError(
                        f"the service does not take the rows: {problem}; run the import again later"
                    )
                await asyncio.sleep(pause)

    async def _send_once(self, batch: Sequence[Row]) -> tuple[list[Row], str]:
        """Sends a batch, reports what is settled, and returns what is to be sent again and why."""
        request = messages.BatchCreateParticipantsRequest(requests=[row.request for row in batch])
        try:
            response = await self._stub.BatchCreateParticipants(request, metadata=self._metadata, timeout=CALL_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            problem = f"{error.code().name}: {error.details()}"
            if error.code().value[0] not in RETRIED:
                raise ConfigurationError(f"the service refuses the import: {problem}") from None
            return list(batch), problem
        return self._settle(batch, response.results)

    def _settle(
        self, batch: Sequence[Row], results: Sequence[messages.BatchCreateParticipantsResponse.Item]
    ) -> tuple[list[Row], str]:
        again: list[Row] = []
        # Behind a row that is sent again, the same participant's later rows are too, or they would be overtaken.
        unsettled: set[str] = set()
        problem = ""
        for row, item in zip(batch, results, strict=True):
            if item.status.code in RETRIED or row.request.external_id in unsettled:
                unsettled.add(row.request.external_id)
                again.append(row)
                problem = item.status.message or problem
            elif item.HasField("status"):
                self._report(row, REJECTED, item.status.message)
            else:
                self._report(row, _RESULTS.Name(item.result), "")
        return again, problem
