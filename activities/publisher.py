"""
The publisher: write the report as one Markdown file, once for each mission.
"""

import os
import tempfile
from pathlib import Path

from pydantic import BaseModel

from outlast import Context, agent
from outlast.contracts.ids import MissionName
from outlast.contracts.text import markdown, markdown_name
from outlast.crew.crew_models import Citation, LibraryIndex, Publication, Review
from outlast.crew.library.passages import collapse_whitespace
from outlast.crew.output_path import OutputPath, writable
from outlast.store.private import make_folder


class PublisherInput(BaseModel):
    # On this host; None where only the starter has one.
    reports: OutputPath | None = None
    mission: MissionName
    needs: dict[str, Review | LibraryIndex]


@agent("publisher", version=1)
async def publisher(order: PublisherInput, ctx: Context) -> Publication:
    """
    Write the report; an attempt that comes after finds it written.
    """
    review = next(each for each in order.needs.values() if isinstance(each, Review))
    index = next(
        each for each in order.needs.values() if isinstance(each, LibraryIndex)
    )
    written = None
    if order.reports is not None:
        path = order.reports / f"{order.mission}.md"
        ctx.emit(f"writing {path}")
        written = await ctx.once(
            f"publish:{ctx.round}",  # a new round has something new to say
            lambda _, text: write(path, text),
            content=str(path),
            payload=report(review, index),
            if_unsure="repeat",  # the same file with the same text
        )
    return Publication(
        answer=review.answer,
        citations=review.citations,
        gaps=index.gaps,
        report=written,
        answered=review.answered,
    )


def write(path: Path, text: str) -> str:
    """
    Put *text* at *path* whole or not at all; return the path.
    """
    path = writable(path)  # a link to elsewhere may have come since it was named
    make_folder(path.parent)
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError:
        Path(draft).unlink(missing_ok=True)
        raise
    return str(path)


def plain_line(text: str) -> str:
    return markdown(collapse_whitespace(text))


def report(review: Review, index: LibraryIndex) -> str:
    """
    The report as Markdown: the answer first, then where it comes from.
    """
    places = [
        f"[{at}] {markdown(each.place)}" for at, each in enumerate(review.citations, 1)
    ]
    parts = [
        markdown(review.answer),
        "\n".join(f"{place}  " for place in places),
        f"# {plain_line(review.question)}",
        _sources(review.citations),
        _gaps(index),
        _dropped(review.dropped),
    ]
    return "\n\n".join(part.strip() for part in parts if part) + "\n"


def _sources(citations: list[Citation]) -> str:
    entries = [
        f"{at}. {plain_line(each.title)}, "
        f"{markdown_name(each.place)}:"
        f"\n\n   > {plain_line(each.quote)}"
        for at, each in enumerate(citations, 1)
    ]
    return "\n\n".join(["## Sources", *entries]) if entries else ""


def _gaps(index: LibraryIndex) -> str:
    if not index.gaps_total:
        return f"{index.documents} documents were read, all of them completely."
    read = index.documents - index.gaps_total
    lines = [
        f"- {markdown_name(each.document)} {plain_line(each.reason)}"
        for each in index.gaps
    ]
    if (more := index.gaps_total - len(lines)) > 0:
        lines.append(f"- and {more} more")
    head = (
        f"## Gaps\n\n{read} of {index.documents} documents were read. These were not:"
    )
    return "\n".join([head, "", *lines])


def _dropped(dropped: list[Citation]) -> str:
    lines = [
        f"- {markdown_name(each.place)}: {plain_line(each.quote)}" for each in dropped
    ]
    head = "## Dropped\n\nThese quotations were not found in their source:"
    return "\n".join([head, "", *lines]) if lines else ""
