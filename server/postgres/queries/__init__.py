"""The queries of requests, one a .sql file beside this one, and those that health asks."""

from __future__ import annotations

import re

from server.postgres.queries.lists import LIST as LIST
from server.postgres.queries.query import Query, text_of


def _read(name: str, *without: str) -> Query:
    """Returns a query, or the variant of it that leaves out the sections of these names."""
    text = text_of(name)
    for section in without:
        text = re.sub(rf"^ *-- begin {section}\n.*?^ *-- end {section}\n", "", text, flags=re.DOTALL | re.MULTILINE)
    return Query("_without_".join([name, *without]).encode(), text.encode())


UPSERT_ONE = _read("upsert_one")
UPDATE_ONE = _read("upsert_one", "rest")
# By whether some upsert names a program, and whether somebody wants the whole participant.
UPSERT = {
    (True, True): _read("upsert"),
    (False, True): _read("upsert", "programs"),
    (True, False): _read("upsert", "whole"),
    (False, False): _read("upsert", "programs", "whole"),
}
GET = _read("get")
LOOKUP = _read("lookup")
UPDATE = _read("update")
ENROLL = _read("enroll")
DELETE = _read("delete")
FIND_KEYS = _read("find_keys")
FIND_KEYS_OF_MANY = _read("find_keys_of_many")
MARK_KEYS_USED = _read("mark_keys_used")
CAN_WRITE = _read("can_write")
IDLE_BACKENDS = _read("idle_backends")
# Those of requests, which every connection of the pool has prepared.
ALL = (
    *(UPSERT_ONE, UPDATE_ONE, *UPSERT.values(), GET, LOOKUP, *LIST.values(), UPDATE, ENROLL, DELETE),
    *(FIND_KEYS, FIND_KEYS_OF_MANY, MARK_KEYS_USED),
)
