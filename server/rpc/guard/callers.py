"""What is known of who calls, by the connection they call from."""

from __future__ import annotations

from server.rpc.guard.gate import Gate
from server.rpc.guard.ledger import Ledger
from server.rpc.guard.wasted_calls import WastedCalls


class Callers:
    """What their calls account for, which of them were wasted, and which may begin."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.gate = Gate(self.ledger)
        self.wasted = WastedCalls(self.ledger, self.gate)
