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
    """Has the statements for one upsert write what they merged over whatever another has written since."""
    key = b"c.organization_id = $1::uuid AND c.external_id = $2::text"
    for query in (queries.UPSERT_ONE, queries.UPDATE_ONE):
        text = query.text
        for guard, without in (
            (b"UPDATE OF c SKIP LOCKED", b"UPDATE OF c"),
            (b"WHERE p.ctid = (", b"WHERE (p.organization_id, p.external_id) = ($1::uuid, $2::text) AND EXISTS ("),
            (
                b"coalesce(p.attributes ||",
                b"coalesce((SELECT c.attributes FROM participants AS c WHERE " + key + b") ||",
            ),
        ):
            assert text.count(guard) == 1
            text = text.replace(guard, without)
        object.__setattr__(query, "text", text)


if __name__ == "__main__":
    _without_order_per_key()
    _without_comparing_versions()
    main()
