"""
What the crew hands from one agent to the next. Documents stay where they are: a
citation says where to read.
"""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, model_validator

from outlast.crew.library.passages import collapse_whitespace


class DocumentSource(BaseModel):
    """
    Where the documents are: in a folder that workers can read, or in the store alone,
    in a library that was ingested.
    """

    documents: Path | None = None
    library: str | None = None

    @model_validator(mode="after")
    def _names_one(self) -> Self:
        if (self.documents is None) == (self.library is None):
            raise ValueError("name either documents, a folder, or an ingested library")
        return self


class Gap(BaseModel):
    """
    A document that could not be read, and why.
    """

    document: str
    reason: str


class LibraryIndex(BaseModel):
    """
    What the librarian made of a folder, or found in the store.
    """

    library: str
    documents: int  # in the folder, whether or not they could be read
    indexed: int  # new or changed, by this task
    removed: int
    gaps: list[Gap] = []  # the first of them
    gaps_total: int = 0


class Citation(BaseModel):
    """
    A quotation, word for word, and where it stands.
    """

    document: str
    line: int
    quote: str
    title: str = ""
    score: float = 0.0
    verified: bool = False

    @property
    def place(self) -> str:
        return f"{self.document}:{self.line}"


class SubQuestion(BaseModel):
    """
    One sub-question; *context* are words of the whole question that it goes without.
    """

    question: str
    context: str = ""


class QuestionPlan(BaseModel):
    """
    The sub-questions, by the task that looks into each.
    """

    parts: dict[str, SubQuestion]


class Research(BaseModel):
    """
    What the documents say to one sub-question.
    """

    question: str
    answered: bool
    findings: list[Citation] = []
    missing: list[str] = []  # words of the question that were not found together


class Paragraph(BaseModel):
    """
    The answer to one sub-question: quotations, or a note that there is none; *text* is
    what a model has made of the quotations.
    """

    question: str
    quotations: list[Citation] = []
    note: str = ""
    text: str = ""


class Draft(BaseModel):
    """
    The answer in paragraphs, before anybody checked it.
    """

    question: str
    paragraphs: list[Paragraph]
    answer: str = ""


class Review(BaseModel):
    """
    The answer as far as its quotations stand in the documents, and what was dropped.
    """

    question: str
    answer: str
    citations: list[Citation] = []
    dropped: list[Citation] = []
    answered: bool = False


class Publication(BaseModel):
    """
    The report as it was published.
    """

    answer: str
    citations: list[Citation] = []
    gaps: list[Gap] = []
    report: str | None = None  # the path of the file, where a worker has written one
    answered: bool = False


def compose(paragraphs: list[Paragraph]) -> tuple[str, list[Citation]]:
    """
    Write *paragraphs* as one text with markers, and list what the markers stand for.
    """
    citations: list[Citation] = []
    texts = []
    for paragraph in paragraphs:
        for each in paragraph.quotations:
            if each not in citations:
                citations.append(each)
        texts.append(_sentences(paragraph, citations) or paragraph.note)
    return "\n\n".join(texts), citations


def _sentences(paragraph: Paragraph, citations: list[Citation]) -> str:
    quoted = paragraph.quotations
    if quoted and paragraph.text:
        marks = [f"[{citations.index(each) + 1}]" for each in quoted]
        return " ".join([paragraph.text, *marks])
    return " ".join(f"{_sentence(q)} [{citations.index(q) + 1}]" for q in quoted)


def _sentence(citation: Citation) -> str:
    words = collapse_whitespace(citation.quote).lstrip("-*+•> ")
    return words if words.endswith((".", "!", "?", ";", ":")) else f"{words}."
