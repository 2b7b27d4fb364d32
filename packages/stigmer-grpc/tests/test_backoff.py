"""What failed attempts cost the host that they come from."""

from __future__ import annotations

import pytest
from stigmer_grpc.backoff import Backoff, host_of


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_first_failures_are_free_and_the_rest_doubles_up_to_a_limit() -> None:
    backoff = Backoff(free=2, first=0.5, longest=3.0)
    assert [backoff.fail("ipv4:10.0.0.1:1") for _ in range(7)] == [0.0, 0.0, 0.5, 1.0, 2.0, 3.0, 3.0]


def test_another_port_is_the_same_host_and_another_host_is_not() -> None:
    backoff = Backoff(free=0, first=1.0)
    backoff.fail("ipv4:10.0.0.1:1")
    assert backoff.fail("ipv4:10.0.0.1:2") == 2.0
    assert backoff.fail("ipv4:10.0.0.2:1") == 1.0


def test_a_host_that_has_been_quiet_is_like_new() -> None:
    clock = Clock()
    backoff = Backoff(free=0, first=1.0, forget=60.0, clock=clock)
    backoff.fail("ipv4:10.0.0.1:1")
    clock.now = 59.0
    assert backoff.fail("ipv4:10.0.0.1:1") == 2.0
    clock.now = 59.0 + 61.0
    assert backoff.fail("ipv4:10.0.0.1:1") == 1.0


def test_of_too_many_hosts_the_longest_unheard_of_is_forgotten() -> None:
    backoff = Backoff(free=0, first=1.0, most_hosts=100)
    for number in range(1000):
        backoff.fail(f"ipv4:10.0.{number // 256}.{number % 256}:1")
    assert len(backoff) == 100
    assert backoff.fail("ipv4:10.0.3.231:1") == 2.0
    assert backoff.fail("ipv4:10.0.0.1:1") == 1.0


def test_a_host_is_crowded_while_as_many_of_its_attempts_wait_as_may() -> None:
    clock = Clock()
    backoff = Backoff(most_waiting=2, forget=60.0, clock=clock)
    assert not backoff.is_crowded("ipv4:10.0.0.1:1")
    backoff.fail("ipv4:10.0.0.1:1")
    first, _ = backoff.wait("ipv4:10.0.0.1:1"), backoff.wait("ipv4:10.0.0.1:2")
    assert backoff.is_crowded("ipv4:10.0.0.1:3")
    clock.now = 100.0
    backoff.fail("ipv4:10.0.0.1:1")
    assert backoff.is_crowded("ipv4:10.0.0.1:3")
    first()
    assert not backoff.is_crowded("ipv4:10.0.0.1:3")


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("ipv4:127.0.0.1:5000", "127.0.0.1"),
        ("ipv6:%5B::1%5D:5000", "::"),
        ("ipv6:[2001:db8:1:2:aaaa:bbbb:cccc:dddd]:5000", "2001:db8:1:2::"),
        ("ipv6:[::ffff:10.0.0.1]:5000", "10.0.0.1"),
        ("ipv6:[fe80::1%eth0]:5000", "fe80::"),
        ("unix:", "unix:"),
        ("in-process", "in-process"),
        ("ipv4:nonsense", "ipv4:nonsense"),
    ],
)
def test_a_host_is_what_a_caller_cannot_choose(peer: str, host: str) -> None:
    assert host_of(peer) == host
