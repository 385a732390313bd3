"""
One fleet of the embedded stack: how it is started, what it says, and what follows when
it ends.
"""

import asyncio
from dataclasses import dataclass
from enum import Enum, auto

from outlast.contracts.errors import BadInputError, OutlastError, UnavailableError
from outlast.dev.stack_state import FleetLine
from outlast.process.programs import child_environment, module_command


class FleetStart(Enum):
    """
    Why a fleet was started.
    """

    FIRST = auto()
    RELOADED = auto()  # files of agents have changed
    KILLED = auto()  # the fleet before it was


class NextFleet(Enum):
    """
    What follows a fleet that has ended.
    """

    NONE = auto()  # the stack ends
    FAIL = auto()  # and says why the fleet did not start
    RELOAD = auto()
    RESTART = auto()
    AWAIT_CHANGE = auto()  # only other files of agents can help


@dataclass(frozen=True)
class FleetEnd:
    """
    How a fleet has ended, or was ended.

    :param code: its exit code, below 0 for a signal; 0 where we ended it.
    :param line: what it said of its start; None where it said nothing.
    """

    code: int
    line: FleetLine | None = None

    @property
    def was_ready(self) -> bool:
        return self.line is not None and self.line.ready

    @property
    def failure(self) -> OutlastError:
        if self.line is not None and self.line.refused:
            return BadInputError(self.line.refused)
        why = self.line.failed if self.line else None
        return UnavailableError(
            f"the fleet did not start: {why or f'exit code {self.code}'}; see what is "
            "wrong with outlast doctor"
        )


def after_fleet(
    end: FleetEnd, start: FleetStart, *, changed: bool, stopping: bool
) -> NextFleet:
    """
    Decide what follows a fleet: one that was killed is replaced, and one that did not
    become ready would fail again, unless a file of agents is mended.

    :param changed: files of agents have changed and can be loaded.
    :param stopping: a signal has asked the stack to end.
    """
    if stopping:
        return NextFleet.NONE
    killed = end.code < 0
    if end.was_ready or (start is FleetStart.KILLED and killed):
        if changed:
            return NextFleet.RELOAD
        return NextFleet.RESTART if killed else NextFleet.NONE
    if start is FleetStart.RELOADED:
        return NextFleet.AWAIT_CHANGE
    return NextFleet.FAIL


async def start_fleet(address: str, options: list[str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *module_command("outlast.worker"),
        "--json",
        "--tied",
        *options,
        stdout=asyncio.subprocess.PIPE,
        stdin=asyncio.subprocess.PIPE,  # its end is ours: the fleet drains
        env={**child_environment(), "TEMPORAL_ADDRESS": address},
        start_new_session=True,  # a Ctrl-C is for us; we drain it
    )


async def read_line(
    fleet: asyncio.subprocess.Process, stop: asyncio.Event
) -> FleetLine | None:
    """
    Read what a fleet says of its start; None when it ended without a line, or *stop*
    was set before.
    """
    assert fleet.stdout is not None
    reading = asyncio.ensure_future(fleet.stdout.readline())
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait([reading, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not reading.done():
        reading.cancel()
        return None
    line = reading.result()
    return FleetLine.model_validate_json(line) if line else None
