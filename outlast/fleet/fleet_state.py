"""
What a fleet is, and what changes when one of its processes says something or dies.
"""

import logging
from collections.abc import Callable

from outlast.contracts.errors import BadInputError
from outlast.fleet.deaths import DeathReports
from outlast.fleet.drain import FleetDrain
from outlast.fleet.exits import Exits
from outlast.fleet.messages import (
    Counted,
    Exiting,
    Hosted,
    Message,
    StateChanged,
    StoreGone,
)
from outlast.fleet.metrics import Metrics
from outlast.fleet.process_kinds import (
    ExitReason,
    ProcessKind,
    ProcessState,
    recorder_path,
)
from outlast.fleet.process_slot import ProcessSlot

logger = logging.getLogger("outlast.fleet")

EXIT_CANNOT_START = 70  # EX_SOFTWARE, for systemd or compose to act on
EXIT_STORE_LOST = 74  # EX_IOERR: starting again does not help


class FleetState:
    """
    The fleet whose processes fill *slots*.
    """

    def __init__(
        self,
        slots: list[ProcessSlot],
        drain: FleetDrain,
        exits: Exits,
        deaths: DeathReports,
    ) -> None:
        self._slots = slots
        self._drain = drain
        self._exits = exits
        self._deaths = deaths
        self.metrics = Metrics()
        self.announced = False  # all of its processes have polled at once
        self.refused: BadInputError | None = None  # what its user can mend
        self.exit_code = 0
        self._failed: str | None = None
        self.on_ready: Callable[[], None] = lambda: None
        self.on_isolated: Callable[[], None] = lambda: None

    def on_message(self, slot: ProcessSlot, message: Message) -> None:
        match message:
            case Counted():
                self.metrics.add(message)
                slot.breakers.update(message.breakers)
            case Hosted():
                slot.polls = message.polls
                if message.isolated:
                    self.on_isolated()
            case StoreGone():
                self.stop_for_lost_store(message.why)
            case Exiting():
                slot.exit_reason, slot.exit_message = message.reason, message.why
                if message.reason is ExitReason.STORE:
                    self.stop_for_lost_store(message.why)
            case StateChanged():
                self._on_state(slot, message.state)

    def _on_state(self, slot: ProcessSlot, state: ProcessState) -> None:
        slot.state = state
        if state is ProcessState.DRAINED:
            slot.ended.set()
        if not self.announced and all(each.polling for each in self._slots):
            self.announced = True
            self.on_ready()

    def on_exit(self, slot: ProcessSlot, pid: int, code: int | None) -> None:
        """
        Note that the slot's process *pid* is dead, and report what it had in flight.
        """
        ended = self._exits.read(slot, code, recorder_path(self._deaths.home, pid))
        # Before any await: simultaneous deaths must not count each other as healthy.
        slot.done = ended.drained and slot.kind is ProcessKind.ISOLATED
        young = (
            slot.state is ProcessState.STARTING
            or slot.exit_reason is ExitReason.WORKER_STOPPED
        )
        # A storm kills new processes too: that is no sign that they cannot start.
        slot.died_before_polling = young and not (self.announced and ended.in_storm)
        slot.state = ProcessState.DEAD
        slot.ended.set()
        self._deaths.report(slot, pid, ended)

    def failure(self) -> dict[str, str]:
        """
        Say why the fleet cannot begin, where it has never been whole: `refused` is what
        its user can mend, `failed` all else.
        """
        if self.announced:
            return {}
        if self.refused is not None:
            return {"refused": str(self.refused)}
        return {"failed": self._failed} if self._failed is not None else {}

    def refuse(self, error: BadInputError) -> None:
        self.refused = error
        self._drain.begin()

    def give_up(self, slot: ProcessSlot, why: str) -> None:
        if self._failed is None:
            logger.error("fleet.gave_up on %s processes: %s", slot.kind, why)
            self._failed = f"it gave up on {slot.kind} processes: {why}"
            self.exit_code = EXIT_CANNOT_START
        self._drain.begin()

    def stop_for_lost_store(self, why: str) -> None:
        """
        Stop, since what is worked on now can be kept nowhere.
        """
        if self._failed is None:
            logger.error("store.lost: %s", why)
            self._failed, self.exit_code = why, EXIT_STORE_LOST
        self._drain.begin()
