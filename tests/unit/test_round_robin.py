"""Each caller has one in turn, and it is known beforehand how many come before."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server.round_robin import RoundRobin

CALLERS = st.sampled_from("abcd")


def queue_of(*callers: str) -> RoundRobin[tuple[str, int]]:
    queue = RoundRobin[tuple[str, int]]()
    for number, caller in enumerate(callers):
        queue.add(caller, (caller, number))
    return queue


def all_of(queue: RoundRobin[tuple[str, int]]) -> list[tuple[str, int]]:
    return [queue.take() for _ in range(queue.size)]


def test_each_caller_has_one_in_turn() -> None:
    queue = queue_of(*"aaab", *"cab")
    assert [caller for caller, _ in all_of(queue)] == [*"abc", *"ab", "a", "a"]


def test_what_comes_first_is_the_next_of_its_caller() -> None:
    queue = queue_of(*"aab")
    queue.add("a", ("a", 9), first=True)
    assert all_of(queue) == [("a", 9), ("b", 2), ("a", 0), ("a", 1)]


def test_who_takes_all_that_it_may_leaves_half_of_what_was_free() -> None:
    queue = queue_of()
    for caller in "abc":
        while queue.has_room(caller, 80):
            queue.add(caller, (caller, 0))
    assert [queue.of(caller) for caller in "abc"] == [40, 20, 10]
    assert queue.has_room("d", 80)


@given(st.lists(CALLERS), st.integers(0, 10), CALLERS)
def test_no_more_come_before_a_new_one_than_was_said(callers: list[str], taken: int, caller: str) -> None:
    queue = queue_of(*callers)
    for _ in range(min(taken, queue.size)):
        queue.take()
    own, most = queue.of(caller), queue.ahead(caller)
    queue.add(caller, (caller, -1))
    order = all_of(queue)
    before = order.index((caller, -1))
    assert before <= most
    assert sum(each == caller for each, _ in order) == own + 1
    # Those of one caller keep their order.
    assert [number for each, number in order[:before] if each == caller] == sorted(
        number for each, number in order[:before] if each == caller
    )
