"""Headers over gRPC without measure."""

from __future__ import annotations

import pytest

from tests.conftest import Deployment
from tests.hostile.crowd import crowd
from tests.hostile.grpc_wire import SERVICE, Wire, bomb, headers
from tests.hostile.others import alone, others_unhurt, slow_for_others

CREATE = f"{SERVICE}/CreateParticipant"
MIB = 1 << 20


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "without an end"])
def test_headers_of_8_mib_from_a_crowd_of_strangers(deployment: Deployment, whole: bool) -> None:
    data = headers(1, CREATE, [("x-much", "x" * 8 * MIB)], whole=whole)
    with (
        others_unhurt(deployment),
        crowd(64, lambda: Wire(deployment.service.grpc_address), lambda wire: wire.send(data)),
    ):
        pass


# Fields, and how many of each: a few kilobytes, of which grpcio makes up to 16 MiB for whoever has not acknowledged our
# limit.
LONG, SHORT, EMPTY = (("x" * 3_900, "y"), 4_000), (("x-many", "y" * 3_900), 4_000), (("x", ""), 16_000)


@pytest.mark.parametrize("path", [CREATE, "no.such.Service/Method"])
def test_a_call_with_too_much_metadata_ends_its_connection(deployment: Deployment, path: str) -> None:
    with Wire(deployment.service.grpc_address) as wire:
        wire.send(bomb(1, path, ("x-many", "y" * 30), 600))
        wire.socket.settimeout(5)
        wire.until_closed()


@alone
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "without an end"])
@pytest.mark.parametrize(
    ("size", "calls", "fields"),
    [
        *((1, 50, LONG), (8, 50, LONG), (64, 10, LONG), (64, 10, EMPTY)),
        *(pytest.param(*each, marks=slow_for_others) for each in ((8, 50, SHORT), (300, 1, LONG), (300, 2, EMPTY))),
    ],
)
def test_many_fields_that_take_a_byte_each(
    deployment: Deployment, size: int, calls: int, fields: tuple[tuple[str, str], int], whole: bool
) -> None:
    data = b"".join(bomb(2 * call + 1, CREATE, *fields, whole=whole) for call in range(calls if whole else 1))

    def attack(wire: Wire) -> None:
        wire.send(data)
        wire.until_closed()

    with others_unhurt(deployment), crowd(size, lambda: Wire(deployment.service.grpc_address), attack):
        pass
