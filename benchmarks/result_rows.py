"""
A row of a benchmark's table: what was measured, and the bound it is held to.
"""

import statistics
from dataclasses import dataclass


@dataclass
class ResultRow:
    """
    One figure with its bound, None for those that are only shown.
    """

    what: str
    values: list[float]
    bound: float | None = None
    unit: str = "s"

    @property
    def p95(self) -> float:
        ordered = sorted(self.values)
        return ordered[max(0, int(len(ordered) * 0.95 + 0.5) - 1)]

    @property
    def held(self) -> bool:
        return self.bound is None or self.p95 <= self.bound

    def __str__(self) -> str:
        median, worst = statistics.median(self.values), max(self.values)
        bound = "" if self.bound is None else f"{self.bound:g} {self.unit}"
        held = "" if self.held else "MISSED"
        figures = f"{median:9.2f} {self.p95:9.2f} {worst:9.2f} {self.unit:10}"
        return f"{self.what:48} {len(self.values):4} {figures} {bound:8} {held}"
