"""
A researcher with a model: it searches and reads as it likes, and answers in quotations.

What it quotes is looked up at once, for its place. What cannot be found is handed on as
it was said, for the reviewer to drop and to name; if that is all, the next route looks.
"""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, Field

from outlast import Context, GiveUp
from outlast.contracts.text import one_line
from outlast.crew.crew_models import Citation, Research
from outlast.crew.library import quotes, search
from outlast.crew.llm.prompt import Prompt, QuotedText, ask_model, register_for_models
from outlast.crew.researcher import ResearcherInput, library_of
from outlast.store.database import Store

MAX_QUOTATIONS = 6
# Passages that one search or one look into a document shows.
SHOWN_PASSAGES = 6
READ_PASSAGES = 3
# The line of what no document says.
NOT_FOUND_LINE = 0

RESEARCHER_INSTRUCTIONS = f"""
You look a question up in a library of documents. Answer with at most {MAX_QUOTATIONS}
quotations that answer it: whole sentences, copied word for word, each with the name of
its document. Search again with other words when what you see does not answer. If the
documents do not answer the question, return no quotation: never guess.
"""


class QuotedPassage(BaseModel):
    """
    A sentence of a document, copied word for word.
    """

    document: Annotated[str, Field(min_length=1, max_length=500)]
    quote: Annotated[str, Field(min_length=1, max_length=1500)]


class FoundQuotations(BaseModel):
    """
    What answers the question; nothing, where the documents do not.
    """

    quotations: list[QuotedPassage] = Field(max_length=MAX_QUOTATIONS)


async def look_up(order: ResearcherInput, ctx: Context) -> Research:
    """
    Have the model look into the library that the librarian made.

    :raises GiveUp: when no document says anything of what the model quotes.
    """
    library, store, fence = library_of(order), ctx.store, QuotedText.of(ctx)
    find, read = _tools(store, library, fence)
    asked = f"{order.question}\n\n{await find(f'{order.question} {order.context}')}"
    instructions = fence.instruct(RESEARCHER_INSTRUCTIONS)
    found = await ask_model(
        Prompt(instructions, asked, FoundQuotations, (find, read)), ctx
    )
    said = {(each.document, each.quote): each for each in found.quotations}.values()
    places = [await store.run(_find, store, library, each) for each in said]
    if places and not any(places):
        named = ", ".join(each.document for each in said)
        raise GiveUp(f"the model quotes what no document says: {named}")
    findings = [_cite(each, place) for each, place in zip(said, places, strict=True)]
    return Research(question=order.question, answered=bool(findings), findings=findings)


def _tools(
    store: Store, library: str, fence: QuotedText
) -> tuple[Callable[[str], Any], Callable[[str, int], Any]]:
    """
    All that the model can do: search and read.
    """

    async def find(query: str) -> str:
        """
        Search the library for passages that share words with the query.
        """
        hits = await store.run(search.search, store, library, query, SHOWN_PASSAGES)
        shown = [fence.quote(hit.text, f"{hit.document}:{hit.line}") for hit in hits]
        return "\n".join(shown) or "Nothing was found."

    async def read(document: str, line: int) -> str:
        """
        Read on in a document from a line.
        """
        found = await store.run(quotes.around, store, library, document, line)
        shown = [
            fence.quote(each.text, f"{document}:{each.line}")
            for each in found[:READ_PASSAGES]
        ]
        return "\n".join(shown) or "There is no such document."

    return find, read


def _document(quotation: QuotedPassage) -> str:
    """
    The document's name: the model was shown `document:line`, and may well say so.
    """
    name, _, line = quotation.document.rpartition(":")
    return name if name and line.isdigit() else quotation.document


def _find(
    store: Store, library: str, quotation: QuotedPassage
) -> quotes.QuotePlace | None:
    return quotes.find(store, library, _document(quotation), quotation.quote)


def _cite(quotation: QuotedPassage, place: quotes.QuotePlace | None) -> Citation:
    document = one_line(_document(quotation), 200)
    if place is None:
        return Citation(document=document, line=NOT_FOUND_LINE, quote=quotation.quote)
    return Citation(
        document=document, line=place.line, quote=place.words, title=place.title
    )


register_for_models("researcher", look_up)
