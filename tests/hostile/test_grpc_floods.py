"""Frames over gRPC that nobody asked for, without end."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.bench.http2 import ACK, Type, frame
from tests.conftest import Deployment
from tests.hostile.crowd import crowd
from tests.hostile.grpc_wire import SERVICE, Wire, headers
from tests.hostile.others import FLOOD_SECONDS, WORST_OF_CROWDS, WORST_SECONDS, alone, others_unhurt

CREATE = f"{SERVICE}/CreateParticipant"
FLOODERS = 4
# RFC 9113, section 6.1.
PADDED = 0x8
# RFC 9113, section 6.3, whose frames mean nothing any more.
PRIORITY = struct.pack(">HBBBL", 0, 5, 2, 0, 1) + bytes(5)

FLOODS = {
    "pings": frame(Type.PING, 0, 0, b"12345678"),
    "settings": frame(Type.SETTINGS, 0, 0, struct.pack(">HL", 4, 65_535)),
    "priorities": PRIORITY,
    "windows": frame(Type.WINDOW_UPDATE, 0, 0, struct.pack(">L", 1)),
    "resets": frame(Type.RST_STREAM, 0, 99_999, struct.pack(">L", 8)),
}


def flood(data: bytes, first: bytes = b"") -> Callable[[Wire], None]:
    """Sends the same again and again, and again on a new connection when it is cut off."""

    def attack(wire: Wire) -> None:
        until = time.monotonic() + FLOOD_SECONDS
        while time.monotonic() < until:
            with suppress(OSError), wire.again() as again:
                again.socket.settimeout(1)
                again.send(frame(Type.SETTINGS, ACK, 0) + first)
                while time.monotonic() < until:
                    again.send(data)
                    again.discard()

    return attack


@pytest.mark.parametrize("kind", FLOODS)
def test_frames_without_end(deployment: Deployment, kind: str) -> None:
    attack = flood(FLOODS[kind] * 2_000)
    with others_unhurt(deployment), crowd(FLOODERS, lambda: Wire(deployment.service.grpc_address), attack):
        pass


@pytest.mark.parametrize("kind", FLOODS)
def test_frames_without_end_beside_a_call_with_a_good_key(deployment: Deployment, kind: str) -> None:
    call = headers(1, CREATE, [("x-api-key", deployment.tenant.key)])
    attack = flood(FLOODS[kind] * 2_000, first=call)
    with others_unhurt(deployment), crowd(FLOODERS, lambda: Wire(deployment.service.grpc_address), attack):
        pass


@pytest.mark.parametrize(("size", "calls"), [(2 * FLOODERS, 1), (2 * FLOODERS, 90), pytest.param(200, 10, marks=alone)])
@pytest.mark.parametrize(
    ("piece", "first"),
    [
        pytest.param((PADDED, b"\xff" + bytes(255)), b"", id="padding alone"),
        pytest.param((0, b"\x0a"), struct.pack(">BL", 0, 4_000_000), id="a byte each"),
    ],
)
def test_the_smallest_pieces_of_messages_without_end(
    deployment: Deployment, piece: tuple[int, bytes], first: bytes, size: int, calls: int
) -> None:
    """Whoever reads them must not be the event loop, which would answer nobody as long as more come."""
    streams = range(1, 2 * calls, 2)
    key = [("x-api-key", deployment.tenant.key)]
    begun = b"".join(headers(stream, CREATE, key) + frame(Type.DATA, 0, stream, first) for stream in streams)
    pieces = b"".join(frame(Type.DATA, piece[0], stream, piece[1]) for stream in streams)
    attack = flood(pieces * (2_000 // calls), first=begun)
    worst = WORST_SECONDS if size < 64 else WORST_OF_CROWDS
    with others_unhurt(deployment, worst), crowd(size, lambda: Wire(deployment.service.grpc_address), attack):
        pass


def test_continuations_without_end_and_without_anything_in_them(deployment: Deployment) -> None:
    with Wire(deployment.service.grpc_address) as wire:
        with suppress(ConnectionError):
            wire.send(headers(1, CREATE, whole=False) + frame(Type.CONTINUATION, 0, 1) * 100_000)
        wire.until_closed()
