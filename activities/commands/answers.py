"""
What the starter prints of an answer, and the report of one whose workers had no folder
of the starter's to write it into.
"""

import sys
from typing import Any

from outlast.cli.output import print_end, print_reasons
from outlast.cli.run_mission import FinishedMission
from outlast.crew import settings as crew
from outlast.crew.crew_models import LibraryIndex, Review
from outlast.crew.publisher import report, write
from outlast.process.json_output import print_json_answer
from outlast.settings import settings

NO_ANSWER = "The mission ended without an answer."


def print_answer_json(conducted: FinishedMission) -> None:
    """
    Print the answer to a question as one JSON object.
    """
    published = _published(conducted)
    value = {
        "mission": conducted.mission.id,
        "status": conducted.report.status,
        "degraded": conducted.report.degraded,
        "answer": published.get("answer", NO_ANSWER),
        "citations": published.get("citations", []),
        "gaps": published.get("gaps", []),
        "report": published.get("report"),
        "seconds": conducted.seconds,
        "ui": conducted.ui,
    }
    print_json_answer(value)


def print_answer(conducted: FinishedMission) -> None:
    """
    Print the answer for a person: the answer first, each quotation with its place.
    """
    published = _published(conducted)
    print(f"\n{published.get('answer', NO_ANSWER)}\n")
    for number, each in enumerate(published.get("citations", []), 1):
        print(f"  [{number}] {each['document']}:{each['line']}")
        print(f"      “{' '.join(each['quote'].split())}”")
    for gap in published.get("gaps", []):
        print(f"  gap: {gap['document']}: {gap['reason']}")
    print_reasons(conducted.report)
    if published.get("report"):
        print(f"\nreport   {published['report']}")
    print_end(conducted)


def _published(conducted: FinishedMission) -> dict[str, Any]:
    found = conducted.results.get("publish")
    if not isinstance(found, dict):
        return {}
    return {**found, "report": found.get("report") or write_report(conducted)}


def write_report(conducted: FinishedMission) -> str | None:
    """
    Write the report among this home's; returns where it lies, None when it cannot be.
    """
    review, index = (conducted.results.get(task) for task in ("review", "index"))
    if review is None or index is None:
        return None
    text = report(Review.model_validate(review), LibraryIndex.model_validate(index))
    path = crew.settings().reports_below(settings().home) / f"{conducted.mission.id}.md"
    try:
        return write(path, text)
    except OSError as error:
        print(f"no report: {path} cannot be written: {error.strerror}", file=sys.stderr)
        return None
