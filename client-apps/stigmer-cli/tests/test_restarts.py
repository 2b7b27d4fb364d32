from __future__ import annotations

from stigmer_cli.stack.restarts import RestartPolicy


def test_the_delay_doubles_up_to_the_longest() -> None:
    policy = RestartPolicy(limit=6, first_delay=1.0, longest_delay=5.0)
    assert [policy.next_delay(now) for now in range(6)] == [1.0, 2.0, 4.0, 5.0, 5.0, 5.0]


def test_the_limit_is_reached_and_stays_reached() -> None:
    policy = RestartPolicy(limit=2, window=300.0)
    assert policy.next_delay(0.0) is not None
    assert policy.next_delay(1.0) is not None
    assert policy.next_delay(2.0) is None
    assert policy.next_delay(3.0) is None


def test_restarts_older_than_the_window_are_forgiven() -> None:
    policy = RestartPolicy(limit=2, window=10.0, first_delay=1.0)
    policy.next_delay(0.0)
    policy.next_delay(1.0)
    assert policy.next_delay(11.5) == 1.0
