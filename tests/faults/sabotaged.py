"""The service without its order per key: several upserts of one participant go into one statement, which is made for
one of each. It shows that the checker finds it when writes are lost."""

from __future__ import annotations

from typing import Any

from server.cli import main
from server.writes.key_order import KeyOrder


def _all_active(self: KeyOrder, pending: Any) -> bool:
    return True


def _nobody_follows(self: KeyOrder, key: Any) -> None:
    return None


if __name__ == "__main__":
    KeyOrder.enter = _all_active  # type: ignore[method-assign]
    KeyOrder.leave = _nobody_follows  # type: ignore[method-assign]
    main()
