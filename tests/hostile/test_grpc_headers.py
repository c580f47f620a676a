"""Headers over gRPC without measure."""

from __future__ import annotations

import pytest

from tests.conftest import Deployment
from tests.hostile.crowd import crowd
from tests.hostile.grpc_wire import SERVICE, Wire, headers
from tests.hostile.others import others_unhurt

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
