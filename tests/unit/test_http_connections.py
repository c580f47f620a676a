"""Where callers with good keys have too many HTTP connections, those go that are missed least."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from server.errors import Overloaded
from server.gateway import connections
from server.gateway.connections import Connections, Standing


@dataclass(eq=False)
class Connection:
    """What the others see of a connection."""

    since: float
    standing: Standing = Standing.KNOWN
    organization: str | None = None
    is_cut_off: bool = False

    def cut_off(self) -> None:
        self.is_cut_off = True


class Crowd:
    """Connections, of which four may be known."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connections, "MOST_KNOWN", 4)
        monkeypatch.setattr(connections, "KNOWN_EVICTED_AT_ONCE", 2)
        self.state: Any = Connections()

    def come(self, organization: str, *standings: Standing) -> list[Connection]:
        """Has an organization's connections become known, one after the other."""
        come = [Connection(len(self.state.connections) + at, each) for at, each in enumerate(standings)]
        for each in come:
            self.state.connections.add(each)
            self.state.becomes_known(each, organization)
        return come


@pytest.fixture
def crowd(monkeypatch: pytest.MonkeyPatch) -> Crowd:
    return Crowd(monkeypatch)


def test_those_longest_idle_of_who_has_most_go(crowd: Crowd) -> None:
    others = crowd.come("others", Standing.KNOWN)
    flood = crowd.come("flood", Standing.SERVED, *[Standing.KNOWN] * 2)
    crowd.state.answered(flood[1])
    last = crowd.come("flood", Standing.SENDING)
    assert [each.is_cut_off for each in (*others, *flood, *last)] == [False, False, True, True, False]
    assert [each.organization for each in flood] == ["flood", None, None]
    # There is room again.
    assert not any(each.is_cut_off for each in crowd.come("others", Standing.KNOWN))


def test_the_longest_idle_is_whoever_had_its_last_answer_first(crowd: Crowd) -> None:
    flood = crowd.come("flood", *[Standing.KNOWN] * 4)
    crowd.state.answered(flood[0])
    crowd.state.answered(flood[1])
    crowd.come("flood", Standing.SERVED)
    assert [each.is_cut_off for each in flood] == [False, False, True, True]


def test_where_all_have_calls_under_way_the_last_that_called_goes(crowd: Crowd) -> None:
    flood = crowd.come("flood", *[Standing.SERVED] * 3, Standing.SENDING)
    crowd.come("others", Standing.SERVED)
    assert [each.is_cut_off for each in flood] == [False, False, False, True]
    with pytest.raises(Overloaded, match="too many connections"):
        crowd.come("flood", Standing.SERVED)
    assert not any(each.is_cut_off for each in flood[:3])


def test_who_has_gone_is_not_counted(crowd: Crowd) -> None:
    flood = crowd.come("flood", *[Standing.KNOWN] * 4)
    crowd.state.connections.discard(flood[0])
    crowd.state.forget(flood[0])
    crowd.come("flood", Standing.KNOWN)
    assert not any(each.is_cut_off for each in flood)
