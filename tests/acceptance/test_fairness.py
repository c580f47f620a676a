"""Nobody waits for what another organization sends, nor for a participant that others of its own organization want.

A flood waits for itself, so how long its own calls take is the measure, whatever the machine has to do besides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from statistics import median

import psycopg

from server.api.turns import BATCH, PERIOD
from tests.conftest import Deployment
from tests.support.clients import Client, GrpcClient, Reply
from tests.support.flood import flood

# The first calls come upon all that the flood has begun while nobody else was there.
SETTLING, CALLS = 10, 40
# How many times as long as others the callers of a flood wait, at the least. They are hundreds where others are one.
TIMES = 4


def times(call: Callable[[int], None]) -> list[float]:
    """Returns how long calls take, in seconds."""
    taken = []
    for number in range(SETTLING + CALLS):
        started = time.perf_counter()
        call(number)
        taken.append(time.perf_counter() - started)
    return taken[SETTLING:]


def address(client: Client, deployment: Deployment) -> str:
    service = deployment.service
    return service.grpc_address if client.name == "grpc" else service.http_url.partition("//")[2]


def test_a_flood_delays_and_refuses_nobody_else(client: Client, deployment: Deployment, external_id: str) -> None:
    participant_id = client.create({"external_id": external_id}).participant["id"]

    def write(number: int) -> None:
        assert client.create({"external_id": external_id, "first_name": f"{number}"}).code == "OK"

    def read(_: int) -> None:
        assert client.get(participant_id).code == "OK"

    with flood(client.name, address(client, deployment), deployment.stranger.key) as latencies:
        writes, reads = times(write), times(read)
        of_the_flood = latencies()
    assert median(writes) * TIMES < median(of_the_flood)
    assert median(reads) * TIMES < median(of_the_flood)


def test_a_hot_key_delays_its_own_callers_alone(client: Client, deployment: Deployment, external_id: str) -> None:
    def call(number: int) -> None:
        # Another organization is there, so not all calls of this one are begun at once.
        assert client.create({"external_id": external_id}, key=deployment.stranger.key).code == "OK"
        assert client.create({"external_id": external_id, "first_name": f"{number}"}).code == "OK"

    with flood(
        client.name, address(client, deployment), deployment.tenant.key, callers=128, participants=1
    ) as latencies:
        taken = times(call)
        of_the_flood = latencies()
    assert median(taken) * TIMES < median(of_the_flood)


@contextmanager
def slow_database(conninfo: str, seconds: float) -> Iterator[None]:
    """Has each statement that writes participants take so long."""
    with psycopg.connect(conninfo, autocommit=True) as owner:
        owner.execute(
            "CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS "
            f"'BEGIN PERFORM pg_sleep({seconds}); RETURN NULL; END'".encode()
        )
        owner.execute("CREATE TRIGGER pause AFTER INSERT ON participants FOR EACH STATEMENT EXECUTE FUNCTION pause()")
        try:
            yield
        finally:
            owner.execute("DROP TRIGGER pause ON participants")
            owner.execute("DROP FUNCTION pause")


def test_batches_leave_calls_of_their_organization_room_while_the_database_is_slow(deployment: Deployment) -> None:
    def send(caller: int) -> Reply:
        # On a busy machine all of them together may take longer than a call usually has.
        batches = GrpcClient(deployment.service.grpc_address, deployment.tenant.key, timeout=60)
        reply = batches.create_batch([{"external_id": f"batch-{caller}-{number}"} for number in range(1_000)])
        batches.close()
        return reply

    # Among others fewer batches would be begun.
    time.sleep(2 * PERIOD)
    calls = GrpcClient(deployment.service.grpc_address, deployment.tenant.key)
    replies = []
    with slow_database(deployment.conninfo, 0.6 * BATCH.lease), ThreadPoolExecutor(16) as pool:
        sent = [pool.submit(send, caller) for caller in range(16)]
        while not all(batch.done() for batch in sent):
            replies.append(calls.create({"external_id": "beside batches"}))
    calls.close()
    replies += [item for batch in sent for item in batch.result().items]
    assert "OK" in {reply.code for reply in replies}
    # On a busy machine a turn may come too late.
    assert "QUEUE_FULL" not in {reply.reason for reply in replies}
