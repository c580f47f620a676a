"""When the next statement starts, and what is known of the time that one takes."""

from __future__ import annotations

from server.writes.batching import BatchingPolicy


def test_how_long_a_statement_took_counts_when_it_was_written() -> None:
    policy = BatchingPolicy()
    policy.started(0.0, 10, 0)
    policy.ended(0.01, 0.0, 10, 0, is_written=True)
    assert policy.seconds_per_statement > 0
    assert policy.seconds_per_upsert > 0


def test_how_long_nobody_answered_says_nothing_of_the_next_statement() -> None:
    policy = BatchingPolicy()
    policy.started(0.0, 10, 0)
    policy.ended(3.0, 0.0, 10, 0, is_written=False)
    assert (policy.seconds_per_statement, policy.seconds_per_upsert) == (0.0, 0.0)
