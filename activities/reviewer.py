"""
The reviewer: read every quotation again in its source, and drop what is not there.

It trusts neither the index nor the writer: the file itself decides, word for word. Of
an ingested library there is no file here, so that the index decides.
"""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from outlast import Context, Redo, agent
from outlast.crew.crew_models import (
    Citation,
    DocumentSource,
    Draft,
    Paragraph,
    Review,
    compose,
)
from outlast.crew.library import quotes
from outlast.crew.library.documents_root import resolve_within
from outlast.crew.library.parsing import UnreadableDocumentError, decoded, load, parse
from outlast.crew.library.passages import Passage
from outlast.store.database import Store

# Files whose passages are their own text, line by line.
VERBATIM = (".markdown", ".md", ".txt")

# What the writer quoted cannot be found again: better no answer than a wrong one.
UNVERIFIED = "What was found could not be verified in its source"


class ReviewerInput(DocumentSource):
    needs: dict[str, Draft]


@dataclass(frozen=True)
class VerifiedDraft:
    """
    The quotations of the draft that the task *writing* has made: those that were found
    in their source and those that were not.
    """

    writing: str
    draft: Draft
    verified: list[Citation]
    dropped: list[Citation]


@agent("reviewer", version=1)
async def reviewer(order: ReviewerInput, ctx: Context) -> Review | Redo:
    """
    Verify the draft against the documents, and reject one that quotes what is not
    there. What a model has made of them cannot be looked up there: without a model to
    judge it, the quotations speak for themselves.
    """
    return reviewed(await verify(order, ctx))


async def verify(order: ReviewerInput, ctx: Context) -> VerifiedDraft:
    """
    Look every quotation of the draft up in its source.
    """
    ((writing, draft),) = order.needs.items()
    quoted = [each for part in draft.paragraphs for each in part.quotations]
    verified: list[Citation] = []
    for each in quoted:
        ctx.emit(f"verifying {each.place}")
        if await is_in_source(ctx.store, order.documents, order.library or "", each):
            verified.append(each)
    dropped = [each for each in quoted if each not in verified]
    return VerifiedDraft(writing, draft, verified, dropped)


def reviewed(found: VerifiedDraft, supported: Collection[str] = ()) -> Review | Redo:
    """
    The answer as far as it is verified, with the texts that are *supported* by
    quotations which are all verified. Where some are not, the draft is rejected; after
    the last rejection that is allowed, what is verified is the answer.
    """
    review = _review(found, supported)
    if not found.dropped:
        return review
    places = ", ".join(each.place for each in found.dropped)
    reason = f"quotations not found in their source: {places}"
    return Redo.of(found.writing, reason, review)


async def is_in_source(
    store: Store, folder: Path | None, library: str, citation: Citation
) -> bool:
    """
    Whether the quotation is found, word for word and at its line, in the file below
    *folder*; where there is no folder, in what *library* has of it.

    :raises OutsideFolderError: when missions may not read *folder* here.
    """
    if folder is not None:
        return await asyncio.to_thread(_in_file, folder, citation)
    place = (library, citation.document, citation.line)
    return await store.run(quotes.holds, store, *place, citation.quote)


def _in_file(folder: Path, citation: Citation) -> bool:
    root = resolve_within(folder).resolve()
    file = (root / citation.document).resolve()
    if not file.is_relative_to(root):
        return False
    try:
        passages = _passages(file)
    except UnreadableDocumentError:
        return False
    quote = citation.quote
    return bool(quote.strip()) and any(p.holds(quote, citation.line) for p in passages)


def _passages(file: Path) -> list[Passage]:
    """
    What the file says: itself where it is plain text, so that no parser is trusted.
    """
    if file.suffix.lower() in VERBATIM:
        return [Passage(1, "", decoded(load(file)))]
    return parse(file).passages


def _review(found: VerifiedDraft, supported: Collection[str]) -> Review:
    paragraphs = [_checked(each, found, supported) for each in found.draft.paragraphs]
    answer, citations = compose(paragraphs)
    return Review(
        question=found.draft.question,
        answer=answer,
        citations=[each.model_copy(update={"verified": True}) for each in citations],
        dropped=found.dropped,
        answered=bool(citations),
    )


def _checked(
    paragraph: Paragraph, found: VerifiedDraft, supported: Collection[str]
) -> Paragraph:
    """
    *paragraph* with its verified quotations alone, and its text if that is supported.
    """
    kept = [each for each in paragraph.quotations if each in found.verified]
    note = paragraph.note
    if paragraph.quotations and not kept:
        note = f"{UNVERIFIED}: {paragraph.question}"
    whole = kept == paragraph.quotations and paragraph.text in supported
    text = paragraph.text if whole else ""
    return Paragraph(question=paragraph.question, quotations=kept, note=note, text=text)
