"""The service without what keeps writes of one participant apart, to show that the checker finds what is lost then.

There are two guards, and one is enough: without the order per key alone, or without the comparison of versions alone in
one replica, nothing is lost. So both are taken out.
"""

from __future__ import annotations

from typing import Any

from server.cli import main
from server.postgres import queries
from server.writes.key_order import KeyOrder


def _without_order_per_key() -> None:
    def all_are_active(self: KeyOrder, pending: Any) -> bool:
        return True

    def nobody_follows(self: KeyOrder, key: Any) -> None:
        return None

    KeyOrder.enter = all_are_active  # type: ignore[method-assign]
    KeyOrder.leave = nobody_follows  # type: ignore[method-assign]


def _without_comparing_versions() -> None:
    """Has the statement for one upsert write what it merged over whatever another has written since."""
    text = queries.UPSERT_ONE.text
    for guard, without in (
        (b"p.revision = (", b"p.revision >= ("),
        (b"UPDATE OF p SKIP LOCKED", b"UPDATE OF p"),
        (b"p.ctid = l.row_id", b"p.organization_id = $1::uuid AND p.external_id = $3::text"),
    ):
        assert text.count(guard) == 1
        text = text.replace(guard, without)
    object.__setattr__(queries.UPSERT_ONE, "text", text)


if __name__ == "__main__":
    _without_order_per_key()
    _without_comparing_versions()
    main()
