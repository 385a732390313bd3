"""
When a process with leaked attempts is replaced.
"""

from outlast.fleet.watchdog import LEAK_GRACE_S, MAX_LEAKED, RECYCLE_LIMIT_S, Leaks


def idle() -> bool:
    return True


def busy() -> bool:
    return False


def test_a_process_without_leaks_stays() -> None:
    """
    Idle is no reason to be replaced.
    """
    assert not Leaks().should_recycle(0.0, 0, idle)
    assert not Leaks(quarantined=True).should_recycle(0.0, 0, idle)


def test_an_idle_process_is_replaced_after_a_moment() -> None:
    """
    What ends by itself within the grace costs no process.
    """
    leaks = Leaks()
    assert not leaks.should_recycle(10.0, 1, idle)
    assert not leaks.should_recycle(10.0 + LEAK_GRACE_S, 1, idle)
    assert leaks.should_recycle(10.1 + LEAK_GRACE_S, 1, idle)


def test_other_attempts_have_time_to_finish() -> None:
    """
    A busy process stays until the limit; then what it has in hand is handed on.
    """
    leaks = Leaks()
    assert not leaks.should_recycle(10.0, 1, busy)
    assert not leaks.should_recycle(10.0 + RECYCLE_LIMIT_S, 1, busy)
    assert leaks.should_recycle(10.1 + RECYCLE_LIMIT_S, 1, busy)


def test_a_leak_that_ends_starts_no_clock_for_the_next() -> None:
    """
    Only what leaks now counts.
    """
    leaks = Leaks()
    leaks.should_recycle(10.0, 1, busy)
    leaks.should_recycle(20.0, 0, busy)
    assert not leaks.should_recycle(11.0 + RECYCLE_LIMIT_S, 1, busy)


def test_many_leaks_are_not_waited_for() -> None:
    """
    Each holds a thread that plain agents need.
    """
    assert not Leaks().should_recycle(0.0, MAX_LEAKED - 1, busy)
    assert Leaks().should_recycle(0.0, MAX_LEAKED, busy)


def test_the_quarantine_is_replaced_at_once() -> None:
    """
    It takes one attempt at a time, of all roles: no leak may hold it.
    """
    assert Leaks(quarantined=True).should_recycle(0.0, 1, busy)
