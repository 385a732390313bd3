"""
How a mission's end is printed: for a person, and as one JSON object.
"""

from collections.abc import Mapping
from typing import Any

from outlast.cli.run_mission import FinishedMission
from outlast.contracts.reports import Outcome, Report
from outlast.process.called import tell
from outlast.process.json_output import print_json_rows


def print_mission_json(conducted: FinishedMission) -> None:
    report, results = conducted.report, conducted.results
    value = {
        "mission": report.mission,
        "status": report.status,
        "degraded": report.degraded,
        "seconds": conducted.seconds,
        "ui": conducted.ui,
    }
    print_json_rows(
        value, "tasks", (_task_json(each, results) for each in report.tasks)
    )


def print_mission(conducted: FinishedMission) -> None:
    for each in conducted.report.tasks:
        print(outcome_line(each))
    print_reasons(conducted.report)
    print_end(conducted)


def outcome_line(outcome: Outcome) -> str:
    told = "; ".join(each for each in (outcome.approval, outcome.summary) if each)
    return f"{outcome.id:<16} {outcome.status:<9} {told}".rstrip()


def print_reasons(report: Report) -> None:
    for reason in report.degraded:
        tell(f"  lacks: {reason}")


def print_end(conducted: FinishedMission) -> None:
    print(f"status   {conducted.report.status} in {conducted.seconds:.1f} s")
    tell(f"story    outlast explain {conducted.mission.id}")
    if conducted.ui and conducted.ui_stays:
        print(f"Web UI   {conducted.ui}")
    elif conducted.ui:
        tell("Web UI   stops with this command; look again with: outlast dev")


def _task_json(outcome: Outcome, results: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": outcome.id,
        "role": outcome.role,
        "route": outcome.route,
        "status": outcome.status,
        "attempts": outcome.attempts,
        "reasons": outcome.reasons,
        "result": results.get(outcome.id),
    }
