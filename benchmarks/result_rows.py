"""
Rows of a benchmark's table: what was measured, and the bound it is held to.
"""

import statistics
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple


def p95(values: list[float]) -> float:
    return sorted(values)[ceil(len(values) * 0.95) - 1]


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
    def held(self) -> bool:
        return self.bound is None or p95(self.values) <= self.bound

    def __str__(self) -> str:
        median, worst = statistics.median(self.values), max(self.values)
        bound = "" if self.bound is None else f"{self.bound:g} {self.unit}"
        held = "" if self.held else "MISSED"
        figures = f"{median:9.2f} {p95(self.values):9.2f} {worst:9.2f} {self.unit:10}"
        return f"{self.what:48} {len(self.values):4} {figures} {bound:8} {held}"


class TableRow(NamedTuple):
    """
    One figure; *held* is None where nothing is promised.
    """

    what: str
    figure: str
    bound: str = ""
    held: bool | None = None

    def __str__(self) -> str:
        verdict = {None: "", True: "ok", False: "MISSED"}[self.held]
        return f"{self.what:<64}{self.figure:>12}{self.bound:>12}  {verdict}".rstrip()


def least(what: str, figure: float, bound: float, form: str = ",.0f") -> TableRow:
    return TableRow(what, f"{figure:{form}}", f">= {bound:{form}}", figure >= bound)


def most(what: str, figure: float, bound: float, form: str = ",.0f") -> TableRow:
    return TableRow(what, f"{figure:{form}}", f"<= {bound:{form}}", figure <= bound)
