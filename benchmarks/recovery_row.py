"""
The row of a fault in the table of recoveries.
"""

import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.result_rows import p95

HEADING = (
    f"{'fault':<44}{'n':>5}{'median':>9}{'p95':>9}{'worst':>9}{'lost':>6}"
    f"{'bounds':>12}  {'':<8}what ended the attempt before the worst"
)


@dataclass(frozen=True)
class AttemptStartLine:
    """
    The first line of an attempt at a task of *mission*.
    """

    mission: str
    task: str
    attempt: int

    @classmethod
    def of(cls, log: Path, line: dict[str, Any]) -> "AttemptStartLine":
        return cls(log.stem, line["task"], line["attempt"])


@dataclass
class RecoveryRow:
    """
    One fault and what was measured.

    :param worst: the attempt that took longest to begin.
    :param cause: what ended the one before it.
    """

    fault: str
    bound_median_s: float | None
    bound_worst_s: float | None
    seconds: list[float] = field(default_factory=list)
    lost: int = 0
    worst: AttemptStartLine | None = None
    cause: str = ""

    def add(self, seconds: float, start: AttemptStartLine) -> None:
        if seconds > max(self.seconds, default=0.0):
            self.worst = start
        self.seconds.append(seconds)

    @property
    def held(self) -> bool:
        median = statistics.median(self.seconds)
        return (self.bound_median_s is None or median <= self.bound_median_s) and (
            self.bound_worst_s is None or p95(self.seconds) <= self.bound_worst_s
        )

    def __str__(self) -> str:
        bounds = "/".join(
            "-" if bound is None else f"{bound:g}"
            for bound in (self.bound_median_s, self.bound_worst_s)
        )
        verdict = "ok" if self.held else "MISSED"
        return (
            f"{self.fault:<44}{len(self.seconds):>5}"
            f"{statistics.median(self.seconds):>9.3f}{p95(self.seconds):>9.3f}"
            f"{max(self.seconds):>9.3f}{self.lost:>6}{bounds:>12}"
            f"  {verdict:<8}{self.cause}"
        )
