"""The checker can fail: each test is a history that one rule forbids, next to one that it allows."""

from __future__ import annotations

import pytest

from tests.faults.checker import lost, violations
from tests.faults.history import Write, as_line, from_lines

KEY = "user"


def write(token: str, started: float, ended: float, *seen: str, code: str = "OK", created: bool = False) -> Write:
    """A write, which if it was answered has seen itself and what is given."""
    if code != "OK":
        return Write("caller", KEY, token, started, ended, code)
    return Write("caller", KEY, token, started, ended, code, "id", created, frozenset({token, *seen}))


def found(*writes: Write, final: str) -> list[str]:
    return violations(writes, {KEY: final.split()})


A = write("a", 0, 1, created=True)
B = write("b", 2, 3, "a")


def test_writes_one_after_the_other_are_right() -> None:
    assert found(A, B, final="a b") == []


def test_concurrent_writes_may_come_in_any_order() -> None:
    late = write("b", 0, 3, created=True)
    assert found(write("a", 0, 3, "b"), late, final="a b") == []


def test_an_unknown_outcome_may_appear_or_not_and_at_any_time_after_it_was_sent() -> None:
    unknown = write("u", 0, 1, code="UNAVAILABLE")
    assert found(A, unknown, B, final="a b") == []
    assert found(A, unknown, B, final="a b u") == []
    assert found(A, unknown, write("b", 2, 3, "a", "u"), final="a b u") == []


def test_an_unknown_outcome_may_have_made_the_participant() -> None:
    unknown = write("u", 0, 1, code="DEADLINE_EXCEEDED")
    assert found(unknown, write("b", 2, 3, "u"), final="u b") == []


@pytest.mark.parametrize(
    ("writes", "final", "wrong"),
    [
        pytest.param([A, B], "b", "a was acknowledged and is gone", id="lost"),
        pytest.param([A, write("b", 2, 3)], "a b", "are in no order", id="lost for a while"),
        pytest.param([A, write("b", 0, 3)], "a b", "are in no order", id="merged with an old version"),
        pytest.param(
            [A, write("b", 2, 3, "a", "c"), write("c", 2, 3, "a", "b")],
            "a b c",
            "are in no order",
            id="seen by each other",
        ),
        pytest.param(
            [write("a", 2, 3, created=True), write("b", 0, 1, "a")],
            "a b",
            "b was answered before a was sent, but came after it",
            id="against real time",
        ),
        pytest.param(
            [A, write("b", 2, 3, "a", "u"), write("u", 4, 5, code="UNAVAILABLE")],
            "a b u",
            "u was seen by b before it was sent",
            id="seen before it was sent",
        ),
        pytest.param(
            [A, write("u", 0, 1, code="UNAVAILABLE"), write("b", 2, 3, "a", "u")],
            "a b",
            "has seen what is gone in the end",
            id="an unknown outcome vanished",
        ),
        pytest.param(
            [A, write("u", 0, 1, code="UNAVAILABLE"), write("b", 2, 3, "a", "u"), write("c", 4, 5, "a", "b")],
            "a b c u",
            "are in no order",
            id="an unknown outcome vanished for a while",
        ),
        pytest.param([A, write("r", 0, 1, code="RESOURCE_EXHAUSTED")], "a r", "but written", id="refused and written"),
        pytest.param([A, write("b", 2, 3, "a", created=True)], "a b", "2 answers say", id="created twice"),
        pytest.param([write("a", 0, 1), B], "a b", "no answer says", id="created by nobody"),
        pytest.param(
            [write("a", 0, 3), write("b", 0, 3, "a", created=True)], "a b", "was there already", id="created later"
        ),
        pytest.param([A, write("b", 2, 3, "a", "x")], "a b x", "x was seen, but", id="seen from nowhere"),
        pytest.param([A], "a x", "x is there, but nobody wrote it", id="there from nowhere"),
    ],
)
def test_a_history_that_no_order_explains_is_found(writes: list[Write], final: str, wrong: str) -> None:
    assert any(wrong in line for line in found(*writes, final=final)), found(*writes, final=final)


def test_an_answer_without_its_own_write_is_found() -> None:
    blind = Write("caller", KEY, "b", 2, 3, "OK", "id", seen=frozenset({"a"}))
    assert any("lacks its own write" in line for line in found(A, blind, final="a b"))


def test_several_participants_of_one_key_are_found() -> None:
    other = Write("caller", KEY, "b", 2, 3, "OK", "another id", seen=frozenset({"a", "b"}))
    assert any("several participants" in line for line in found(A, other, final="a b"))


def test_a_participant_that_nobody_wrote_is_found() -> None:
    assert violations([A], {KEY: ["a"], "other": []}) == ["other: a participant that nobody wrote"]


def test_lost_writes_are_counted() -> None:
    assert lost([A, B, write("u", 0, 1, code="UNAVAILABLE")], {KEY: ["b"]}) == 1
    assert lost([A, B], {}) == 2


def test_a_history_survives_being_written_down() -> None:
    assert from_lines([as_line(A), as_line(B)]) == [A, B]
