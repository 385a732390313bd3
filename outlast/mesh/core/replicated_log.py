"""
The grow-only set of events, and how two copies of it become one.

Merging is insert-or-ignore: commutative, associative and idempotent. Each copy has, of
each origin, everything up to its head, except what was compacted away; what lies past a
gap is not taken, so that a head is always true.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from pydantic import Field, model_validator

from outlast.contracts.ids import Origin
from outlast.contracts.wire import WireModel
from outlast.mesh.core.events import Key, MeshEvent, Seq

SPAN_OVERHEAD_BYTES = 100  # about what a span takes besides its events

# Of each origin the last sequence up to which everything is known.
VersionVector = Mapping[str, int]


def covers(mine: VersionVector, theirs: VersionVector) -> bool:
    """
    Whether a peer that has *mine* has all of *theirs*.
    """
    return all(mine.get(origin, 0) >= head for origin, head in theirs.items())


def merge_vectors(mine: VersionVector, theirs: VersionVector) -> dict[str, int]:
    """
    The higher number of each origin: what two peers have together.
    """
    both = dict(mine)
    for origin, head in theirs.items():
        both[origin] = max(head, both.get(origin, 0))
    return both


def intersect(vectors: Iterable[VersionVector]) -> dict[str, int]:
    """
    The lowest number of each origin: what all peers have.
    """
    first, *others = vectors
    shared = {
        origin: min([head, *(other.get(origin, 0) for other in others)])
        for origin, head in first.items()
    }
    return {origin: head for origin, head in shared.items() if head}


def summary(vector: VersionVector) -> str:
    """
    Fingerprint a vector, so that a peer that has the same need not send it.
    """
    lines = "\n".join(f"{origin} {head}" for origin, head in sorted(vector.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:32]


class EventSpan(WireModel):
    """
    All that is left of one origin's events past *after*, up to *up_to*: a number
    between them that is not among the events was compacted away.
    """

    origin: Origin
    after: int = Field(ge=0)
    up_to: Seq
    events: list[MeshEvent]

    @model_validator(mode="after")
    def _check_consecutive(self) -> "EventSpan":
        numbers = [each.seq for each in self.events]
        if numbers != sorted(set(numbers)):
            raise ValueError("events out of order")
        if any(each.origin != self.origin for each in self.events):
            raise ValueError("an event of another origin")
        if self.after >= self.up_to or any(
            not self.after < number <= self.up_to for number in numbers
        ):
            raise ValueError("an event outside its span")
        return self


def heads_of(spans: Iterable[EventSpan]) -> dict[str, int]:
    return {span.origin: span.up_to for span in spans}


@dataclass
class LogChange:
    """
    What a merge has changed, for the durable log to follow in one transaction.

    :param high_water: of the origins that it touched.
    :param low_water: the last numbers that were compacted away, likewise.
    """

    events: list[MeshEvent] = field(default_factory=list)
    dropped: list[Key] = field(default_factory=list)
    high_water: dict[str, int] = field(default_factory=dict)
    low_water: dict[str, int] = field(default_factory=dict)

    def add(self, other: "LogChange") -> None:
        self.events += other.events
        self.dropped += other.dropped
        self.high_water = merge_vectors(self.high_water, other.high_water)
        self.low_water = merge_vectors(self.low_water, other.low_water)

    def __bool__(self) -> bool:
        return bool(self.events or self.dropped or self.high_water or self.low_water)


class ReplicatedLog:
    """
    One peer's copy of the log, in memory.
    """

    def __init__(
        self,
        events: Iterable[MeshEvent] = (),
        heads: VersionVector | None = None,
        floors: VersionVector | None = None,
    ) -> None:
        self.high_water: dict[str, int] = dict(heads or {})
        self.low_water: dict[str, int] = dict(floors or {})
        self._events: dict[str, dict[int, MeshEvent]] = {}
        for each in events:
            self._insert(each)
            self.high_water[each.origin] = max(
                each.seq, self.high_water.get(each.origin, 0)
            )

    def __iter__(self) -> Iterator[MeshEvent]:
        for of_one in self._events.values():
            yield from of_one.values()

    def __len__(self) -> int:
        return sum(map(len, self._events.values()))

    def append(self, event: MeshEvent) -> LogChange:
        assert event.seq == self.high_water.get(event.origin, 0) + 1
        self._insert(event)
        self.high_water[event.origin] = event.seq
        return LogChange(events=[event], high_water={event.origin: event.seq})

    def missing(
        self, theirs: VersionVector, most_bytes: int
    ) -> tuple[list[EventSpan], bool]:
        """
        Collect what a peer with *theirs* lacks, up to *most_bytes* but at least one
        event; returns also whether more is left.
        """
        spans: list[EventSpan] = []
        for origin in sorted(self.high_water):
            after = theirs.get(origin, 0)
            if after >= self.high_water[origin]:
                continue
            span = self._span(origin, after, most_bytes, at_least=not spans)
            if span.up_to > after:
                most_bytes -= SPAN_OVERHEAD_BYTES + sum(
                    each.size for each in span.events
                )
                spans.append(span)
            if span.up_to < self.high_water[origin] or most_bytes <= 0:
                sent = merge_vectors(theirs, heads_of(spans))
                return spans, not covers(sent, self.high_water)
        return spans, False

    def merge(self, spans: Iterable[EventSpan], rebuilding: bool = False) -> LogChange:
        """
        Insert what is new of *spans*; what was seen before is ignored, and so is what
        lies past a gap, until it is sent again.

        :param rebuilding: the spans come from a log that was compacted past what is
            known here: what they do not hold is dropped here too.
        """
        change = LogChange()
        for span in spans:
            if span.after > self.high_water.get(span.origin, 0):
                continue
            if rebuilding:
                change.add(self._drop_compacted(span))
            change.add(self._merge(span))
        return change

    def drop(self, keys: Iterable[Key]) -> LogChange:
        """
        Compact *keys* away; a peer that lacks one of them must rebuild its log.
        """
        change = LogChange()
        for origin, seq in keys:
            if self._events.get(origin, {}).pop(seq, None) is not None:
                change.dropped.append((origin, seq))
                change.low_water = merge_vectors(change.low_water, {origin: seq})
        self.low_water = merge_vectors(self.low_water, change.low_water)
        return change

    def _insert(self, event: MeshEvent) -> None:
        self._events.setdefault(event.origin, {})[event.seq] = event

    def _span(
        self, origin: str, after: int, most_bytes: int, at_least: bool
    ) -> EventSpan:
        found: list[MeshEvent] = []
        held = self._events.get(origin, {})
        up_to = self.high_water[origin]
        for seq in sorted(each for each in held if each > after):
            each = held[seq]
            if each.size > most_bytes and (found or not at_least):
                up_to = seq - 1
                break
            most_bytes -= each.size
            found.append(each)
        return EventSpan.model_construct(
            origin=origin, after=after, up_to=up_to, events=found
        )

    def _merge(self, span: EventSpan) -> LogChange:
        head = self.high_water.get(span.origin, 0)
        if span.up_to <= head:
            return LogChange()
        # Below the head lies what is known, or was and is compacted away.
        fresh = [each for each in span.events if each.seq > head]
        for each in fresh:
            self._insert(each)
        self.high_water[span.origin] = span.up_to
        change = LogChange(events=fresh, high_water={span.origin: span.up_to})
        known = {each.seq for each in fresh}
        hole = span.up_to
        while hole in known:
            hole -= 1
        if hole > head:
            change.low_water = {span.origin: hole}
            self.low_water = merge_vectors(self.low_water, change.low_water)
        return change

    def _drop_compacted(self, span: EventSpan) -> LogChange:
        named = {each.seq for each in span.events}
        held = self._events.get(span.origin, {})
        return self.drop(
            [
                (span.origin, seq)
                for seq in sorted(held)
                if span.after < seq <= span.up_to and seq not in named
            ]
        )
