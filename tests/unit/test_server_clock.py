"""
The database server's clock, as processes of several hosts read it.
"""

import time

import pytest
from unit_fakes import Clock

from outlast.store.database import Store
from outlast.store.server_clock import CLOCK_CHECK_S, ServerClock
from testkit.postgres import Postgres


def test_two_hosts_read_one_clock() -> None:
    """
    However far apart their own are, which only carry it on.
    """
    server = Clock(5_000.0)
    hosts = [Clock(10.0), Clock(90_000.0)]
    clocks = [ServerClock(each) for each in hosts]
    for clock in clocks:
        clock.check(server)
    for each in hosts:
        each.turn(3)
    assert [clock() for clock in clocks] == [5_003.0, 5_003.0]


def test_a_server_whose_clock_was_set_is_looked_at_again() -> None:
    """
    So that all agree again within LOOK_S.
    """
    server, host = Clock(5_000.0), Clock(10.0)
    clock = ServerClock(host)
    assert clock.is_due
    clock.check(server)
    host.turn(CLOCK_CHECK_S)
    assert not clock.is_due
    host.turn(0.1)
    assert clock.is_due
    server.turn(-3_600)
    clock.check(server)
    assert clock() == server()


def test_the_way_there_and_back_is_halved() -> None:
    """
    A slow answer puts the clock off by half of its time at most.
    """
    host = Clock(10.0)

    def slow() -> float:
        host.turn(0.2)
        return 5_000.0

    clock = ServerClock(host)
    clock.check(slow)
    assert clock() == pytest.approx(5_000.1)


def test_a_store_has_the_clock_of_its_database(postgres: Postgres) -> None:
    """
    Of the server, which here is on this host.
    """
    store = Store(postgres.database())
    assert store.clock() == pytest.approx(time.time(), abs=5)
    store.close()
