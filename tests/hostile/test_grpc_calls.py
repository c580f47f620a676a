"""Calls over gRPC that come to nothing, by the thousand: without a good key, or given up as soon as they are made."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, suppress

import grpc
import pytest
from participants.v1 import participant_service_pb2 as messages
from participants.v1.participant_service_pb2_grpc import ParticipantServiceStub

from server.auth.keys import new_key
from server.rpc.request_message import MAX_CALLS
from tests.bench.http2 import ACK, END_STREAM, Type, frame
from tests.conftest import Deployment
from tests.hostile.crowd import crowd, gone_at_once
from tests.hostile.grpc_wire import SERVICE, Wire, headers
from tests.hostile.others import (
    FLOOD_SECONDS,
    WORST_OF_CROWDS,
    WORST_OF_NEWCOMERS,
    WORST_SECONDS,
    alone,
    others_unhurt,
)
from tests.support.clients import GrpcClient, Reply

CREATE = f"{SERVICE}/CreateParticipant"
VALID = messages.CreateParticipantRequest(external_id="hostile").SerializeToString()
AT_ONCE = 50
# In milliseconds.
DEADLINE = 5
SECONDS = 2.0
RESET = struct.pack(">L", 8)


def flood(metadata: list[tuple[str, str]], *, reset: bool, seconds: float = FLOOD_SECONDS) -> Callable[[Wire], None]:
    """Calls again and again, and on a new connection when it is cut off."""

    def attack(wire: Wire) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with suppress(OSError), wire.again() as again:
                again.socket.settimeout(1)
                again.send(frame(Type.SETTINGS, ACK, 0))
                stream = 1
                while time.monotonic() < until:
                    streams = range(stream, stream + 2 * AT_ONCE, 2)
                    again.send(b"".join(_call(number, metadata, reset=reset) for number in streams))
                    again.discard()
                    stream = streams.stop

    return attack


def _call(stream: int, metadata: list[tuple[str, str]], *, reset: bool) -> bytes:
    call = headers(stream, CREATE, metadata, ended=not reset)
    return call + frame(Type.RST_STREAM, 0, stream, RESET) if reset else call


# Before the floods, whose calls of the same organization may be under way for a while.
def test_a_connection_that_carries_a_good_key_may_carry_any_number_of_bad_ones(deployment: Deployment) -> None:
    with Wire(deployment.service.grpc_address) as wire:
        wire.send(frame(Type.SETTINGS, ACK, 0))
        for _ in range(2):
            good = wire.call(CREATE, [("x-api-key", deployment.tenant.key)])
            wire.message(good, VALID)
            assert any(kind == Type.DATA for kind, _ in wire.until_ended(good))
            for _ in range(30):
                # They may be answered in any order.
                waiting = {wire.call(CREATE, ended=True) for _ in range(20)}
                while waiting:
                    _, flags, number, _ = wire.next_frame()
                    if flags & END_STREAM:
                        waiting.discard(number)


def test_calls_that_waited_may_all_be_given_up_together(deployment: Deployment) -> None:
    key = [("x-api-key", deployment.tenant.key)]
    with ExitStack() as stack:
        wires = [stack.enter_context(Wire(deployment.service.grpc_address)) for _ in range(4)]
        for wire in wires:
            wire.send(frame(Type.SETTINGS, ACK, 0))
        calls = [(wire, wire.call(CREATE, key)) for wire in wires for _ in range(90)]
        # Their messages are waited for.
        time.sleep(1)
        for wire, call in calls:
            wire.send(frame(Type.RST_STREAM, 0, call, RESET))
        for wire in wires:
            again = wire.call(CREATE, key)
            wire.message(again, VALID)
            assert any(kind == Type.DATA for kind, _ in wire.until_ended(again))


@pytest.mark.parametrize("size", [4, pytest.param(50, marks=alone)])
async def test_nobody_is_cut_off_who_comes_with_many_and_makes_many_calls_at_once(
    deployment: Deployment, size: int
) -> None:
    address, metadata = deployment.service.grpc_address, [("x-api-key", deployment.tenant.key)]
    request = messages.CreateParticipantRequest(external_id="hostile")

    async def call(channel: grpc.aio.Channel) -> str:
        try:
            await ParticipantServiceStub(channel).CreateParticipant(request, metadata=metadata, timeout=20)
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return "OK"

    with others_unhurt(deployment, WORST_OF_CROWDS):
        async with AsyncExitStack() as stack:
            # Each with a connection of its own.
            options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
            channels = [
                await stack.enter_async_context(grpc.aio.insecure_channel(address, options)) for _ in range(size)
            ]
            codes = await asyncio.gather(*(call(channel) for channel in channels for _ in range(MAX_CALLS)))
    assert set(codes) <= {"OK", "RESOURCE_EXHAUSTED"}
    assert "OK" in codes


@pytest.mark.parametrize("at_once", [1, 32])
def test_a_client_that_waits_for_its_answers_may_try_a_bad_key_again_and_again(
    deployment: Deployment, at_once: int
) -> None:
    def call_again(client: GrpcClient) -> set[str]:
        codes, until = set(), time.monotonic() + SECONDS
        while time.monotonic() < until:
            codes.add(client.create({"external_id": "bad"}).code)
        return codes

    client = GrpcClient(deployment.service.grpc_address, "sk_malformed")
    with ThreadPoolExecutor(at_once) as threads:
        codes = set().union(*threads.map(call_again, [client] * at_once))
    client.close()
    assert codes == {"UNAUTHENTICATED"}


@pytest.mark.parametrize("size", [4, *(pytest.param(size, marks=alone) for size in (32, 300))])
@pytest.mark.parametrize(
    ("key", "reset"),
    [
        *((key, False) for key in ("none", "malformed", "unknown")),
        *((key, True) for key in ("none", "unknown", "good")),
    ],
)
def test_calls_that_come_to_nothing(deployment: Deployment, key: str, reset: bool, size: int) -> None:
    keys = {
        "malformed": "sk_malformed",
        "unknown": new_key(deployment.tenant.organization_id)[1],
        "good": deployment.tenant.key,
    }
    attack = flood([("x-api-key", keys[key])] if key in keys else [], reset=reset)
    worst = WORST_SECONDS if size < 32 else WORST_OF_CROWDS
    with others_unhurt(deployment, worst), crowd(size, lambda: Wire(deployment.service.grpc_address), attack):
        pass


def test_whoever_has_much_to_send_or_to_read_is_heard_during_an_attack(deployment: Deployment) -> None:
    address, key = deployment.service.grpc_address, deployment.stranger.key
    attributes = {f"{number}": "x" * 4_000 for number in range(10)}
    batch = [{"external_id": f"large-{number}", "attributes": attributes} for number in range(50)]

    def come_with_a_batch() -> Reply:
        newcomer = GrpcClient(address, key)
        reply = newcomer.create_batch(batch[:20])
        newcomer.close()
        return reply

    def again(call: Callable[[], Reply]) -> list[str]:
        codes, until = [], time.monotonic() + SECONDS
        while time.monotonic() < until:
            codes.append(call().code)
        return codes

    sender, reader = GrpcClient(address, key), GrpcClient(address, key)
    calls = [come_with_a_batch, lambda: sender.create_batch(batch), lambda: reader.list({"page_size": 1000})]
    with (
        ThreadPoolExecutor(len(calls)) as threads,
        crowd(4, lambda: Wire(address), flood([], reset=False, seconds=SECONDS)),
    ):
        codes = list(threads.map(again, calls))
    sender.close()
    reader.close()
    assert min(map(len, codes)) > 1
    assert {code for each in codes for code in each} == {"OK"}


@alone
@pytest.mark.parametrize("size", [32, 128])
def test_calls_whose_deadlines_are_shorter_than_the_service_takes(deployment: Deployment, size: int) -> None:
    def attack(wire: Wire) -> None:
        wire.send(frame(Type.SETTINGS, ACK, 0))
        until = time.monotonic() + FLOOD_SECONDS
        while time.monotonic() < until:
            number = wire.call(CREATE, [("x-api-key", deployment.tenant.key), ("grpc-timeout", f"{DEADLINE}m")])
            wire.message(number, VALID)
            time.sleep(DEADLINE / 1000)
            wire.discard()

    with others_unhurt(deployment), crowd(size, lambda: Wire(deployment.service.grpc_address), attack):
        pass


@pytest.mark.parametrize("size", [4, pytest.param(32, marks=alone)])
@pytest.mark.parametrize("has_key", [False, True], ids=["by strangers", "by key holders"])
def test_calls_of_callers_who_are_gone_at_once(deployment: Deployment, has_key: bool, size: int) -> None:
    metadata = [("x-api-key", deployment.tenant.key)] if has_key else []
    calls = b"".join(_call(stream, metadata, reset=False) for stream in range(1, 2 * AT_ONCE, 2))
    attack = gone_at_once(frame(Type.SETTINGS, ACK, 0) + calls, seconds=FLOOD_SECONDS, reset=True)
    with (
        others_unhurt(deployment, WORST_OF_CROWDS, WORST_OF_NEWCOMERS),
        crowd(size, lambda: Wire(deployment.service.grpc_address), attack),
    ):
        pass


@pytest.mark.parametrize("size", [4, *(pytest.param(size, marks=alone) for size in (64, 200))])
def test_calls_without_a_message_of_callers_who_go_together(deployment: Deployment, size: int) -> None:
    metadata = [("x-api-key", deployment.tenant.key)]
    calls = b"".join(headers(stream, f"{SERVICE}/GetParticipant", metadata) for stream in range(1, 2 * MAX_CALLS, 2))

    def attack(wire: Wire) -> None:
        wire.send(frame(Type.SETTINGS, ACK, 0) + calls)
        time.sleep(FLOOD_SECONDS)

    with (
        others_unhurt(deployment, worst_of_newcomers=WORST_OF_NEWCOMERS if size == 200 else None),
        crowd(size, lambda: Wire(deployment.service.grpc_address), attack),
    ):
        pass
