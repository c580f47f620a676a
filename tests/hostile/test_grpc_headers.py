"""Headers over gRPC without measure."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest

from tests.conftest import Deployment
from tests.hostile.crowd import crowd, gone_at_once
from tests.hostile.grpc_wire import SERVICE, Wire, bomb, headers
from tests.hostile.others import (
    FLOOD_SECONDS,
    WORST_OF_CROWDS,
    WORST_OF_NEWCOMERS,
    WORST_SECONDS,
    alone,
    others_unhurt,
)

CREATE = f"{SERVICE}/CreateParticipant"
MIB = 1 << 20
SECONDS = 3.0


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "without an end"])
def test_headers_of_8_mib_from_a_crowd_of_strangers(deployment: Deployment, whole: bool) -> None:
    data = headers(1, CREATE, [("x-much", "x" * 8 * MIB)], whole=whole)
    with (
        others_unhurt(deployment, WORST_SECONDS, WORST_OF_NEWCOMERS),
        crowd(64, lambda: Wire(deployment.service.grpc_address), lambda wire: wire.send(data)),
    ):
        pass


# Fields, and how many of each: a few kilobytes, of which grpcio makes up to 16 MiB for whoever has not acknowledged our
# limit.
LONG, SHORT, EMPTY = (("x" * 3_900, "y"), 4_000), (("x-many", "y" * 3_900), 4_000), (("x", ""), 16_000)


@alone
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "without an end"])
@pytest.mark.parametrize(
    ("size", "calls", "fields"),
    [(1, 50, LONG), (8, 50, LONG), (8, 50, SHORT), (64, 10, LONG), (64, 10, EMPTY), (300, 1, LONG), (300, 2, EMPTY)],
)
def test_many_fields_that_take_a_byte_each(
    deployment: Deployment, size: int, calls: int, fields: tuple[tuple[str, str], int], whole: bool
) -> None:
    data = b"".join(bomb(2 * call + 1, CREATE, *fields, whole=whole) for call in range(calls if whole else 1))

    def attack(wire: Wire) -> None:
        wire.send(data)
        wire.until_closed()

    worst = WORST_SECONDS if size < 64 else WORST_OF_CROWDS
    with (
        others_unhurt(deployment, worst, WORST_OF_NEWCOMERS),
        crowd(size, lambda: Wire(deployment.service.grpc_address), attack),
    ):
        pass


@alone
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "without an end"])
@pytest.mark.parametrize("has_key", [False, True], ids=["by strangers", "by key holders"])
@pytest.mark.parametrize(("size", "fields"), [(4, LONG), (32, SHORT), (64, EMPTY)])
def test_many_fields_from_callers_who_come_again(
    deployment: Deployment, size: int, fields: tuple[tuple[str, str], int], has_key: bool, whole: bool
) -> None:
    # Of key holders more may be taken in before it is seen that they flood.
    calls = 10 if whole and not has_key else 1
    data = b"".join(bomb(3 + 2 * call, CREATE, *fields, whole=whole) for call in range(calls))

    def attack(wire: Wire) -> None:
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            with suppress(OSError), wire.again() as again:
                again.socket.settimeout(1)
                if has_key:
                    again.until_ended(again.call(CREATE, [("x-api-key", deployment.tenant.key)], ended=True))
                again.send(data)
                again.until_closed()

    with (
        others_unhurt(deployment, WORST_OF_CROWDS, WORST_OF_NEWCOMERS),
        crowd(size, lambda: Wire(deployment.service.grpc_address), attack),
    ):
        pass


@pytest.mark.parametrize(
    ("size", "fields"),
    [(4, EMPTY), *(pytest.param(*case, marks=alone) for case in [(4, LONG), (32, SHORT), (64, EMPTY)])],
)
@pytest.mark.parametrize("reset", [False, True], ids=["closing", "resetting"])
def test_many_fields_from_callers_who_are_gone_at_once(
    deployment: Deployment, size: int, fields: tuple[tuple[str, str], int], reset: bool
) -> None:
    attack = gone_at_once(bomb(1, CREATE, *fields), seconds=FLOOD_SECONDS, reset=reset)
    with (
        others_unhurt(deployment, WORST_OF_CROWDS, WORST_OF_NEWCOMERS),
        crowd(size, lambda: Wire(deployment.service.grpc_address), attack),
    ):
        pass


@alone
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "without an end"])
@pytest.mark.parametrize(("size", "calls"), [(32, 1), (4, 10)])
def test_many_fields_of_which_most_are_unread_when_their_sender_is_gone(
    deployment: Deployment, size: int, calls: int, whole: bool
) -> None:
    data = b"".join(bomb(2 * call + 1, CREATE, *LONG, whole=whole) for call in range(calls if whole else 1))
    attack = gone_at_once(data, seconds=FLOOD_SECONDS, reset=True)
    with (
        others_unhurt(deployment, WORST_OF_CROWDS, WORST_OF_NEWCOMERS),
        crowd(size, lambda: Wire(deployment.service.grpc_address), attack),
    ):
        pass
