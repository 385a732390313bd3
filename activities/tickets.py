"""
The second shipped job: answer every ticket from the handbook, each exactly once.

The mailroom spreads the tickets over the pool, the clerk answers one, and the tally
says what was posted and what waits for a person. A ticket that the handbook does not
answer is handed to a person, never guessed at.
"""

import asyncio
import fcntl
import io
import json
import os
from pathlib import Path

from pydantic import BaseModel

from outlast import Context, FanOut, GiveUp, agent
from outlast.contracts.results import FanOutRef
from outlast.contracts.text import one_line, sha256_hex
from outlast.crew.crew_models import LibraryIndex, Research
from outlast.crew.extractive.replies import questions, reply
from outlast.crew.library.folder import scan
from outlast.crew.library.parsing import UnreadableDocumentError, decoded, load
from outlast.crew.output_path import OutputPath, writable
from outlast.crew.publisher import plain_line, write
from outlast.crew.researcher import research
from outlast.crew.reviewer import is_in_source
from outlast.store.database import Store
from outlast.store.private import make_folder, open_private

# A report that names more tickets than this is too long to read.
MAX_NAMED = 200
MAX_SHOWN = 100


class MailroomInput(BaseModel):
    tickets: Path
    handbook: Path | None = None  # not where it was ingested
    outbox: OutputPath
    needs: dict[str, LibraryIndex]


class ClerkInput(BaseModel):
    """
    One ticket, with the library to answer from and the outbox to answer into.
    """

    ticket: Path
    handbook: Path | None = None
    library: str
    outbox: OutputPath


class TicketReply(BaseModel):
    """
    What became of a ticket: posted at *posted*, or a person's because of *why*.
    """

    ticket: str
    posted: str | None = None
    why: str | None = None


class TallyInput(BaseModel):
    outbox: OutputPath
    needs: dict[str, FanOutRef]


class TicketTally(BaseModel):
    """
    What became of all of them, by name.
    """

    tickets: int = 0
    posted: int = 0
    for_a_person: list[str] = []
    not_answered: list[str] = []
    report: str = ""
    summary: str = ""


@agent("mailroom", version=1)
async def mailroom(job: MailroomInput, ctx: Context) -> FanOut:
    """
    Find the tickets and give each to a clerk.
    """
    (index,) = job.needs.values()
    try:
        files = await asyncio.to_thread(scan, job.tickets)
    except OSError as error:
        reason = error.strerror or str(error)
        raise GiveUp(f"the tickets in {job.tickets} cannot be read: {reason}") from None
    ctx.emit(f"{len(files)} tickets")
    same = {"library": index.library, "outbox": str(job.outbox)}
    if job.handbook is not None:
        same["handbook"] = str(job.handbook)
    items = [{"ticket": str(each.file), **same} for each in files]
    return FanOut(role="clerk", items=items)


@agent("clerk", version=1)
async def clerk(ticket: ClerkInput, ctx: Context) -> TicketReply:
    """
    Answer one ticket, or hand it to a person.
    """
    name = ticket.ticket.stem
    try:
        text = decoded(await asyncio.to_thread(load, ticket.ticket))
    except UnreadableDocumentError as error:
        raise GiveUp(f"{ticket.ticket.name} {error.reason}") from None
    store = ctx.store
    found = [
        await store.run(research, store, ticket.library, part)
        for part in questions(text)
    ]
    why = await doubt(store, ticket, found)
    if why is not None:
        return TicketReply(ticket=name, why=why)
    mark = sha256_hex(text)[:16]
    place = ticket.outbox / f"{name}-{mark[:8]}.txt"
    posted = await ctx.once(
        f"reply:{mark}:{one_line(name, MAX_SHOWN)}",  # the ticket, wherever it lies
        lambda key, body: post(place, key, body),
        content=None,  # the key tells it all
        payload=reply(text, found),
        if_unsure="repeat",  # post() honours the key
        scope="tenant",  # in no mission is a ticket answered again
    )
    return TicketReply(ticket=name, posted=posted)


async def doubt(store: Store, ticket: ClerkInput, found: list[Research]) -> str | None:
    """
    Say why the ticket is a person's; None when the handbook answers all of it, word
    for word.
    """
    for each in found:
        if not each.answered:
            missing = (
                f": nothing about {', '.join(each.missing)}" if each.missing else ""
            )
            return f"the handbook does not answer “{each.question}”{missing}"
        for citation in each.findings:
            if not await is_in_source(store, ticket.handbook, ticket.library, citation):
                return f"what answers “{each.question}” is not in the handbook any more"
    return None


def post(path: Path, key: str, body: str) -> str:
    """
    Put a reply into the outbox at *path*, once for each *key*; returns where it lies.

    This is the place of a mail or ticket system: one call, with the idempotency key.
    A reply without its line in the log is half a post, by a process that was killed in
    between: the next attempt ends it.
    """
    line = json.dumps({"key": key, "path": str(path)}).encode() + b"\n"
    make_folder(writable(path).parent)
    file = open_private(path.parent / "posted.jsonl", os.O_RDWR | os.O_APPEND)
    with os.fdopen(file, "ab+", buffering=0) as log:
        fcntl.flock(log, fcntl.LOCK_EX)  # the kernel drops it with its process
        if not path.exists():
            write(path, body)
        elif _logged(log, key):
            return str(path)
        log.write(line)
    return str(path)


def _logged(log: io.FileIO, key: str) -> bool:
    log.seek(0)
    return json.dumps({"key": key}).encode()[:-1] + b"," in log.readall()


@agent("tally", version=1)
async def tally(order: TallyInput, ctx: Context) -> TicketTally:
    """
    Count what was posted and name what was not.
    """
    (spread,) = order.needs.values()
    told = TicketTally()
    async for each in ctx.batch_results(spread.batch):
        told.tickets += 1
        if each.dead is not None:
            ticket = ClerkInput.model_validate(each.input).ticket.stem
            told.not_answered.append(f"{ticket}: {each.dead}")
            continue
        answered = TicketReply.model_validate(each.result)
        if answered.posted is None:
            told.for_a_person.append(f"{answered.ticket}: {answered.why}")
        else:
            told.posted += 1
    path = order.outbox / "tally.md"
    told.report = await asyncio.to_thread(write, path, page(told))
    told.summary = (
        f"{told.posted} of {told.tickets} answered; replies in {order.outbox}, "
        f"the rest in {path}"
    )
    told.for_a_person = told.for_a_person[:MAX_NAMED]
    told.not_answered = told.not_answered[:MAX_NAMED]
    return told


def page(tally: TicketTally) -> str:
    """
    The tally as Markdown.
    """
    parts = [f"# {tally.posted} of {tally.tickets} tickets answered"]
    for head, tickets in (
        ("## For a person", tally.for_a_person),
        ("## Not answered, because of a failure", tally.not_answered),
    ):
        if tickets:
            lines = [f"- {plain_line(each)}" for each in tickets]
            parts.append("\n".join([head, "", *lines]))
    return "\n\n".join(parts) + "\n"
