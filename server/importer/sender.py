"""Sends rows in batches, several in flight, and keeps the rows of one participant in their order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from participants.v1 import participant_service_pb2 as messages
from participants.v1.participant_service_pb2_grpc import ParticipantServiceStub

from server.client import CALL_TIMEOUT, PAUSES, RETRIED
from server.errors import CommandError
from server.importer.rows import Row

IN_FLIGHT = 4
BATCH_ROWS = 500
# With one more row of at most 1 MiB, a message stays below the 4 MiB that gRPC allows.
BATCH_BYTES = 2 << 20

_RESULTS = messages.CreateParticipantResponse.Result

# Told of a row and what became of it, in the order of the file: CREATED, UPDATED, UNCHANGED, or REJECTED and why.
Report = Callable[[Row, str, str], None]
REJECTED = "REJECTED"


@dataclass(frozen=True, slots=True)
class _Flight:
    """A batch under way, whom it is about, and what will have become of its rows, one by one."""

    batch: Sequence[Row]
    external_ids: frozenset[str]
    outcomes: asyncio.Task[list[tuple[str, str]]]


class Sender:
    """Sends rows to a running service."""

    def __init__(self, stub: ParticipantServiceStub, key: str, report: Report) -> None:
        self._stub: Any = stub
        self._metadata = (("x-api-key", key),)
        self._report = report
        self._flights: deque[_Flight] = deque()

    async def send(self, rows: Iterable[Row]) -> None:
        """Sends all rows and returns when each has been reported. At most a few batches are held at a time.

        Raises CommandError when the service does not let the caller in, or stays away.
        """
        try:
            for batch in _batches(rows):
                external_ids = frozenset(row.request.external_id for row in batch if not row.problem)
                while len(self._flights) >= IN_FLIGHT or any(
                    not external_ids.isdisjoint(flight.external_ids) for flight in self._flights
                ):
                    await self._land()
                self._flights.append(_Flight(batch, external_ids, asyncio.create_task(self._outcomes(batch))))
            while self._flights:
                await self._land()
        finally:
            for flight in self._flights:
                flight.outcomes.cancel()
            await asyncio.gather(*(flight.outcomes for flight in self._flights), return_exceptions=True)

    async def _land(self) -> None:
        """Waits for the oldest batch and reports its rows."""
        outcomes = await self._flights[0].outcomes
        for row, (result, reason) in zip(self._flights.popleft().batch, outcomes, strict=True):
            self._report(row, result, reason)

    async def _outcomes(self, batch: Sequence[Row]) -> list[tuple[str, str]]:
        outcomes = [(REJECTED, row.problem) for row in batch]
        waiting = [index for index, row in enumerate(batch) if not row.problem]
        for pause in (*PAUSES, None):
            if not waiting:
                break
            waiting, problem = await self._send_once(batch, waiting, outcomes)
            if waiting and pause is None:
                raise CommandError(f"the service does not take the rows: {problem}; run the import again later")
            if waiting and pause is not None:
                await asyncio.sleep(pause)
        return outcomes

    async def _send_once(
        self, batch: Sequence[Row], sent: Sequence[int], outcomes: list[tuple[str, str]]
    ) -> tuple[list[int], str]:
        """Sends the rows at these places, notes what is settled, and returns what is to be sent again and why."""
        request = messages.BatchCreateParticipantsRequest(
            requests=[batch[index].request for index in sent], view=messages.BatchCreateParticipantsRequest.BASIC
        )
        try:
            response = await self._stub.BatchCreateParticipants(request, metadata=self._metadata, timeout=CALL_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            problem = f"{error.code().name}: {error.details()}"
            if error.code().value[0] not in RETRIED:
                raise CommandError(f"the service refuses the import: {problem}") from None
            return list(sent), problem
        again: list[int] = []
        # Behind a row that is sent again, the same participant's later rows are too, or they would be overtaken.
        unsettled: set[str] = set()
        problem = ""
        for index, item in zip(sent, response.results, strict=True):
            external_id = batch[index].request.external_id
            if item.status.code in RETRIED or external_id in unsettled:
                unsettled.add(external_id)
                again.append(index)
                problem = item.status.message or problem
            elif item.HasField("status"):
                outcomes[index] = (REJECTED, item.status.message)
            else:
                outcomes[index] = (_RESULTS.Name(item.result), "")
        return again, problem


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += max(len(row.raw), row.request.ByteSize())
        if len(batch) >= BATCH_ROWS or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
