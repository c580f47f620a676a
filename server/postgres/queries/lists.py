"""The queries of lists, one for each index that can lead, order and direction: list.sql with what differs put in."""

from __future__ import annotations

from itertools import product

from server.postgres.queries.query import Query, text_of

# The table and the condition on the column that the index has between the organization and the order.
_LEADS = {
    "all": ("participants", ""),
    "status": ("participants", "AND l.status = $8::text"),
    "email": ("participants", "AND l.email = $9::text"),
    "tag": ("participant_labels", "AND l.label = 'tag:' || $10::text"),
    "program": ("participant_labels", "AND l.label = 'program:' || $11::uuid"),
}

_ORDERS = {
    "created_at": {
        "key": "participant_id",
        "range": "(l.created_at, l.participant_id) > ($2::timestamptz, $3::uuid)"
        " AND (l.created_at, l.participant_id) < ($4::timestamptz, $5::uuid)",
        "order": "l.created_at{direction}, l.participant_id{direction}",
        "position": "concat((extract(epoch FROM l.created_at) * 1000000)::bigint, ' ', l.participant_id)",
    },
    "external_id": {
        "key": "external_id",
        "range": "l.external_id >= $6::text AND l.external_id < $7::text",
        "order": "l.external_id{direction}",
        "position": "l.external_id",
    },
}

_COLUMNS = {"created_at": "l.created_at, l.participant_id", "external_id": "l.external_id"}

# Of a program that does not lead, whoever else suits is asked for its enrollments; else as many as the page may hold.
_ENROLLED = "$11::uuid IS NULL OR $11::uuid = ANY (e.program_ids)"
_ASKED = "CASE WHEN $11::uuid IS NULL THEN $13::int END"

# Labels name participants; the other indexes lead to their rows at once.
_LABELLED = (
    "(SELECT p.* FROM participants AS p WHERE p.organization_id = $1::uuid"
    " AND p.{key} = ANY (ARRAY(SELECT l.{key} FROM ahead AS l)))"
)


def _list(lead: str, order: str, direction: str) -> Query:
    table, condition = _LEADS[lead]
    parts = {name: part.format(direction=direction) for name, part in _ORDERS[order].items()}
    parts |= {"columns": "l.*", "candidates": "ahead"}
    if table == "participant_labels":
        # What the index has, and no more: the table is not even looked at.
        parts |= {"columns": _COLUMNS[order], "candidates": _LABELLED.format(**parts)}
    parts |= {"enrolled": _ENROLLED, "asked": _ASKED}
    if lead == "program":
        parts |= {"enrolled": "true", "asked": "$13::int"}
    text = text_of("list").format(table=table, condition=condition, **parts)
    return Query(f"list_{lead}_{order}{direction.lower().replace(' ', '_')}".encode(), text.encode())


# By what leads, the order, and whether it descends.
LIST = {
    (lead, order, direction != ""): _list(lead, order, direction)
    for lead, order, direction in product(_LEADS, _ORDERS, ("", " DESC"))
}
