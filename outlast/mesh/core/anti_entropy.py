"""
Anti-entropy: peers tell each other what they have, and send what the other lacks.

New events go to all peers at once. For what was lost on the way each peer compares its
log with one other a second, by fingerprint, so a quiet mesh costs the same at any size.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from outlast.contracts.mesh_timing import (
    MESH_COMPRESSION_BYTES,
    MESH_DIGEST_S,
    MESH_RETRY_S,
)
from outlast.mesh.core.catch_up import CatchUp, RebuildProgress
from outlast.mesh.core.effects import SendMessage
from outlast.mesh.core.messages import Ack, Digest, Events, Message, Rebuild
from outlast.mesh.core.peer_logs import PeerLogs
from outlast.mesh.core.replicated_log import (
    LogChange,
    ReplicatedLog,
    VersionVector,
    covers,
    heads_of,
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
        self.peer_logs = PeerLogs()
        self.refused: Counter[str] = Counter()
        self.live: set[str] = set()
        self._by: dict[str, Any] = {"sender": name, "incarnation": life}
        self._log = log
        self._clock = clock
        self._draw = draw
        self._catch_up: CatchUp | None = None
        self._rebuild: RebuildProgress | None = None
        self._requested_s: dict[str, float] = {}
        self._received_s = clock()  # when the last events came
        self._partners: list[str] = []
        self._next_round_s = clock()

    @property
    def is_behind(self) -> bool:
        """
        Whether what others have may be missing here.
        """
        return self._catch_up is not None

    def start_catch_up(self) -> None:
        self._catch_up = CatchUp(self._draw.getrandbits(53), self._clock())

    def set_peers(self, live: Iterable[str]) -> list[SendMessage]:
        """
        Note which peers live; a new one gets this peer's digest at once.
        """
        before, self.live = self.live, set(live)
        self.peer_logs.keep_incarnations(self.live)
        return [
            SendMessage(peer, self._digest()) for peer in sorted(self.live - before)
        ]

    def tick(self) -> list[SendMessage]:
        now_s = self._clock()
        sends = self._continue_catch_up(self._catch_up, now_s) if self._catch_up else []
        if now_s >= self._next_round_s:
            self._next_round_s = now_s + MESH_DIGEST_S
            partner = self._next_partner()
            if partner is not None:
                sends.append(SendMessage(partner, self._digest()))
        return sends

    def push(self, origin: str, after: int) -> list[SendMessage]:
        have = {**self._log.high_water, origin: after}
        spans, more = self._log.missing(have, MESH_COMPRESSION_BYTES)
        if not spans:
            return []
        events = Events(spans=spans, more=more, **self._by)
        return [SendMessage(peer, events) for peer in sorted(self.live)]

    def on_message(self, message: Message) -> Received:
        """
        Take *message* in; returns what it changes and what to answer.
        """
        if not self.peer_logs.note_incarnation(message.sender, message.incarnation):
            self.refused["late"] += 1
            return LogChange(), []
        match message:
            case Digest():
                return LogChange(), self._on_digest(message)
            case Events():
                return self._on_events(message)
            case Ack():
                return LogChange(), self._on_ack(message)
            case Rebuild():
                return LogChange(), self._on_rebuild(message)

    def _on_digest(self, said: Digest) -> list[SendMessage]:
        same = said.summary == summary(self._log.high_water)
        heads = dict(self._log.high_water) if same else said.high_water
        if not said.rebuilding and heads is not None:
            self.peer_logs.note(said.sender, heads)
        if self._catch_up and said.answers is not None and heads is not None:
            self._catch_up.answer(said.sender, said.answers, heads)
        if said.ask is not None:
            answer = self._digest_of(self._log.high_water, answers=said.ask)
            return [
                SendMessage(said.sender, answer),
                *self._send_missing(said.sender, said.high_water or {}),
            ]
        if heads is None:
            return [SendMessage(said.sender, self._full_digest())]
        sends = self._send_missing(said.sender, heads, said.rebuilding)
        if said.answers is None and not covers(self._log.high_water, heads):
            sends.append(SendMessage(said.sender, self._full_digest(answers=0)))
        return sends

    def _on_events(self, said: Events) -> Received:
        now_s = self._received_s = self._clock()
        gap = any(
            span.after > self._log.high_water.get(span.origin, 0) for span in said.spans
        )
        rebuild = self._rebuild if said.rebuilding else None
        change = self._log.merge(said.spans, rebuilding=rebuild is not None)
        self.peer_logs.note(said.sender, heads_of(said.spans))
        if rebuild:
            if not (rebuild.take(said.spans, now_s) or said.more):
                self._rebuild = None
            return change, [SendMessage(said.sender, self._full_digest())]
        go_on = said.more or (gap and self._may_request(said.sender, now_s))
        held = {
            origin: self._log.high_water[origin]
            for origin in sorted(heads_of(said.spans))
            if origin in self._log.high_water
        }
        ack = Ack(high_water=held, send_more=go_on, **self._by)
        return change, [SendMessage(said.sender, ack)]

    def _on_ack(self, said: Ack) -> list[SendMessage]:
        self.peer_logs.note(said.sender, said.high_water)
        has = self.peer_logs.of(said.sender)
        if not said.send_more:
            return []
        if not covers(has, self._log.low_water):
            # An Ack names but a few origins: ask for all before it must rebuild.
            return [SendMessage(said.sender, self._digest())]
        return self._send_missing(said.sender, has)

    def _on_rebuild(self, said: Rebuild) -> list[SendMessage]:
        """
        Ask as if this log were empty; what is here stays until the other's log says
        that it was compacted away.
        """
        if self._rebuild is None:
            self._rebuild = RebuildProgress(self._clock())
            self.start_catch_up()
        return [SendMessage(said.sender, self._full_digest())]

    def _digest(self) -> Digest:
        """
        The fingerprint alone, where that will do.
        """
        if self._rebuild is not None:
            return self._full_digest()
        return Digest(summary=summary(self._log.high_water), **self._by)

    def _full_digest(self, **more: Any) -> Digest:
        if self._rebuild is None:
            return self._digest_of(self._log.high_water, **more)
        return self._digest_of(self._rebuild.heads, rebuilding=True, **more)

    def _digest_of(self, heads: VersionVector, **more: Any) -> Digest:
        return Digest(
            summary=summary(heads), high_water=dict(heads), **more, **self._by
        )

    def _send_missing(
        self, peer: str, heads: VersionVector, rebuilding: bool = False
    ) -> list[SendMessage]:
        """
        Send the next chunk of what a peer with *heads* lacks.
        """
        if not rebuilding and not covers(heads, self._log.low_water):
            return [SendMessage(peer, Rebuild(**self._by))]
        spans, more = self._log.missing(heads, MESH_COMPRESSION_BYTES)
        if not spans and not rebuilding:
            return []
        chunk = Events(spans=spans, more=more, rebuilding=rebuilding, **self._by)
        return [SendMessage(peer, chunk)]

    def _continue_catch_up(self, catching: CatchUp, now_s: float) -> list[SendMessage]:
        """
        Ask the peers that have not answered, and go on asking where a chunk was lost.
        """
        if self._rebuild is not None and self._rebuild.is_abandoned(now_s):
            self._rebuild = None
        sends: list[SendMessage] = []
        owing = sorted(self.live)
        if self._rebuild is None:
            sends = [
                SendMessage(peer, self._full_digest(ask=catching.number))
                for peer in catching.peers_to_ask(self.live, now_s)
            ]
            if catching.done(self._log.high_water, self.live, now_s):
                self._catch_up = None
            behind = catching.incomplete(self._log.high_water)
            owing = [each for each in behind if each in self.live]
        if owing and now_s >= self._received_s + MESH_RETRY_S:
            self._received_s = now_s
            peer = self._draw.choice(owing)
            sends.append(SendMessage(peer, self._full_digest(answers=0)))
        return sends

    def _may_request(self, peer: str, now_s: float) -> bool:
        """
        Whether it is time to ask for what is missing before a gap: of a burst of chunks
        past one gap only the first asks.
        """
        if now_s < self._requested_s.get(peer, now_s - MESH_RETRY_S) + MESH_RETRY_S:
            return False
        self._requested_s[peer] = now_s
        return True

    def _next_partner(self) -> str | None:
        """
        The peer whose turn it is: each of the living once, in a random order.
        """
        self._partners = [peer for peer in self._partners if peer in self.live]
        if not self._partners:
            self._partners = self._draw.sample(sorted(self.live), len(self.live))
        return self._partners.pop() if self._partners else None
