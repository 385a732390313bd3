"""
Anti-entropy: peers tell each other what they have, and send what the other lacks.

What is new goes to all at once. For what was lost on the way each peer compares its
log with one other a second, by fingerprint, so quiet costs the same in any mesh.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from outlast.contracts.mesh_timing import (
    MESH_COMPRESSION_BYTES,
    MESH_DIGEST_S,
    MESH_RETRY_S,
    MESH_UNRESPONSIVE_S,
)
from outlast.mesh.core.catch_up import CatchUp
from outlast.mesh.core.effects import SendMessage
from outlast.mesh.core.messages import Ack, Digest, Events, Message, Rebuild
from outlast.mesh.core.replicated_log import (
    LogChange,
    ReplicatedLog,
    VersionVector,
    covers,
    merge_vectors,
    summary,
)

Received = tuple[LogChange, list[SendMessage]]


class AntiEntropy:
    """
    What the peer *name* tells the others of *log*, and what it knows that they have.
    """

    def __init__(
        self,
        name: str,
        life: int,
        log: ReplicatedLog,
        clock: Callable[[], float],
        draw: random.Random,
    ) -> None:
        self.known: dict[str, dict[str, int]] = {}  # by peer, also of those away
        self.refused: Counter[str] = Counter()
        self.live: set[str] = set()
        self.catch_up: CatchUp | None = None
        self._by: dict[str, Any] = {"sender": name, "incarnation": life}
        self._log = log
        self._clock = clock
        self._draw = draw
        # Of a log that was compacted past this one: what has come of it so far.
        self._rebuilt: dict[str, int] | None = None
        self._rebuilt_s = clock()  # when the last of it came
        self._incarnations: dict[str, int] = {}
        self._requested_s: dict[str, float] = {}
        self._received_s = clock()  # when the last events came
        self._partners: list[str] = []
        self._next_round_s = clock()

    @property
    def is_behind(self) -> bool:
        """
        Whether what others have may be missing here.
        """
        return self.catch_up is not None

    def start_catch_up(self) -> None:
        """
        Begin to catch up, whatever was caught up with before.
        """
        self.catch_up = CatchUp(self._draw.getrandbits(53), self._clock())

    def set_peers(self, live: Iterable[str]) -> list[SendMessage]:
        """
        Take over who is alive; who is new hears from this peer at once.
        """
        before, self.live = self.live, set(live)
        # Who returns may have lost what it had.
        self._incarnations = {
            name: at for name, at in self._incarnations.items() if name in self.live
        }
        return [
            SendMessage(peer, self._digest()) for peer in sorted(self.live - before)
        ]

    def tick(self) -> list[SendMessage]:
        """
        Ask on while catching up, and compare with one peer a round.
        """
        now_s = self._clock()
        sends = self._catch_up(self.catch_up, now_s) if self.catch_up else []
        if now_s >= self._next_round_s:
            self._next_round_s = now_s + MESH_DIGEST_S
            sends += [
                SendMessage(peer, self._digest()) for peer in self._next_partner()
            ]
        return sends

    def push(self, origin: str, after: int) -> list[SendMessage]:
        """
        Send the events of *origin* past *after* to all that live.
        """
        have = {**self._log.high_water, origin: after}
        spans, more = self._log.missing(have, MESH_COMPRESSION_BYTES)
        events = Events(spans=spans, more=more, **self._by)
        return (
            [SendMessage(peer, events) for peer in sorted(self.live)] if spans else []
        )

    def on_message(self, message: Message) -> Received:
        """
        Take *message* in; returns what it changes and what to answer.
        """
        if message.incarnation < self._incarnations.get(message.sender, 0):
            self.refused["late"] += 1
            return LogChange(), []
        if message.incarnation != self._incarnations.get(message.sender):
            self._incarnations[message.sender] = message.incarnation
            self.known[message.sender] = {}
        match message:
            case Digest():
                return LogChange(), self._on_digest(message)
            case Events():
                return self._on_events(message)
            case Ack():
                self._note(message.sender, message.high_water)
                return LogChange(), self._on_ack(message)
            case Rebuild():
                return LogChange(), self._rebuild(message.sender)

    def _on_ack(self, said: Ack) -> list[SendMessage]:
        has = self.known[said.sender]
        if said.send_more and not covers(has, self._log.low_water):
            # An Ack names but a few origins: ask for all before it must rebuild.
            return [SendMessage(said.sender, self._digest())]
        return self._send_missing(said.sender, has, said.send_more)

    def copies(self, origin: str, seq: int) -> int:
        """
        Count the peers, with this one, that have an event.
        """
        return 1 + sum(has.get(origin, 0) >= seq for has in self.known.values())

    def _note(self, peer: str, heads: VersionVector) -> None:
        self.known[peer] = merge_vectors(self.known.get(peer, {}), heads)

    def _digest(self) -> Digest:
        """
        Say as little as will do.
        """
        if self._rebuilt is not None:
            return self._full()
        return Digest(summary=summary(self._log.high_water), **self._by)

    def _full(self, **more: Any) -> Digest:
        if self._rebuilt is None:
            return self._digest_of(self._log.high_water, **more)
        return self._digest_of(self._rebuilt, rebuilding=True, **more)

    def _digest_of(self, heads: VersionVector, **more: Any) -> Digest:
        return Digest(
            summary=summary(heads), high_water=dict(heads), **more, **self._by
        )

    def _catch_up(self, catching: CatchUp, now_s: float) -> list[SendMessage]:
        """
        Ask who has not answered, and go on asking where a chunk was lost.
        """
        sends: list[SendMessage] = []
        if self._rebuilt is not None and now_s > self._rebuilt_s + MESH_UNRESPONSIVE_S:
            # Whoever served it is gone or mute: what there is must do.
            self._rebuilt = None
        owing = sorted(self.live)
        if self._rebuilt is None:
            asking = catching.peers_to_ask(self.live, now_s)
            sends += [
                SendMessage(peer, self._full(ask=catching.number)) for peer in asking
            ]
            if catching.done(self._log.high_water, self.live, now_s):
                self.catch_up = None
            owing = [
                each
                for each in catching.incomplete(self._log.high_water)
                if each in owing
            ]
        if owing and now_s >= self._received_s + MESH_RETRY_S:
            self._received_s = now_s
            sends.append(SendMessage(self._draw.choice(owing), self._full(answers=0)))
        return sends

    def _on_digest(self, said: Digest) -> list[SendMessage]:
        same = said.summary == summary(self._log.high_water)
        heads = dict(self._log.high_water) if same else said.high_water
        if not said.rebuilding and heads is not None:
            self._note(said.sender, heads)
        if self.catch_up and said.answers is not None and heads is not None:
            self.catch_up.answer(said.sender, said.answers, heads)
        if said.ask is not None:
            answer = self._digest_of(self._log.high_water, answers=said.ask)
            return [
                SendMessage(said.sender, answer),
                *self._send_missing(said.sender, said.high_water or {}),
            ]
        if heads is None:
            return [SendMessage(said.sender, self._full())]
        sends = self._send_missing(said.sender, heads, rebuilding=said.rebuilding)
        if said.answers is None and not covers(self._log.high_water, heads):
            sends.append(SendMessage(said.sender, self._full(answers=0)))
        return sends

    def _on_events(self, said: Events) -> Received:
        gap = any(
            span.after > self._log.high_water.get(span.origin, 0) for span in said.spans
        )
        self._received_s = self._clock()
        rebuilding = said.rebuilding and self._rebuilt is not None
        change = self._log.merge(said.spans, rebuilding)
        self._note(said.sender, {span.origin: span.up_to for span in said.spans})
        if rebuilding:
            return change, self._rebuild_on(said)
        origins = {span.origin for span in said.spans}
        heads = {each: self._log.high_water.get(each, 0) for each in sorted(origins)}
        go_on = said.more or (gap and self._may_request(said.sender))
        held = {origin: head for origin, head in heads.items() if head}
        return change, [
            SendMessage(said.sender, Ack(high_water=held, send_more=go_on, **self._by))
        ]

    def _send_missing(
        self,
        peer: str,
        heads: VersionVector,
        wanted: bool = True,
        rebuilding: bool = False,
    ) -> list[SendMessage]:
        """
        Send the next chunk of what a peer with *heads* lacks.
        """
        if not wanted:
            return []
        if not rebuilding and not covers(heads, self._log.low_water):
            return [SendMessage(peer, Rebuild(**self._by))]
        spans, more = self._log.missing(heads, MESH_COMPRESSION_BYTES)
        if not spans and not rebuilding:
            return []
        chunk = Events(spans=spans, more=more, rebuilding=rebuilding, **self._by)
        return [SendMessage(peer, chunk)]

    def _rebuild(self, peer: str) -> list[SendMessage]:
        """
        Begin with nothing, and keep what is here until the other's log speaks of it.
        """
        if self._rebuilt is None:
            self._rebuilt, self._rebuilt_s = {}, self._clock()
            self.start_catch_up()
        return [SendMessage(peer, self._full())]

    def _rebuild_on(self, said: Events) -> list[SendMessage]:
        so_far, gap = self._rebuilt or {}, False
        self._rebuilt_s = self._clock()
        for span in said.spans:
            if span.after <= so_far.get(span.origin, 0):
                so_far = merge_vectors(so_far, {span.origin: span.up_to})
            else:
                gap = True
        self._rebuilt = so_far if said.more or gap else None
        return [SendMessage(said.sender, self._full())]

    def _may_request(self, peer: str) -> bool:
        """
        Whether it is time to ask for what is missing before a gap: of a burst of chunks
        past one gap only the first asks.
        """
        now_s = self._clock()
        if now_s < self._requested_s.get(peer, now_s - MESH_RETRY_S) + MESH_RETRY_S:
            return False
        self._requested_s[peer] = now_s
        return True

    def _next_partner(self) -> list[str]:
        """
        Name the peer whose turn it is: each of the living once, in an order of chance.
        """
        self._partners = [peer for peer in self._partners if peer in self.live]
        if not self._partners:
            self._partners = self._draw.sample(sorted(self.live), len(self.live))
        return [self._partners.pop()] if self._partners else []
