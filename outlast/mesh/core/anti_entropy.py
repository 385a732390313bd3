"""
Anti-entropy: peers tell each other what they have, and send what the other lacks.

What is new goes to all at once. For what was lost on the way each peer compares its
log with one other a second, by fingerprint, so quiet costs the same in any mesh.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from outlast.contracts.policies import (
    MESH_ASK_S,
    MESH_CHUNK_BYTES,
    MESH_DIGEST_S,
    MESH_MUTE_S,
)
from outlast.mesh.core.catch_up import CatchUp
from outlast.mesh.core.effects import Send
from outlast.mesh.core.messages import Ack, Digest, Events, Message, Rebuild
from outlast.mesh.core.replicated_log import (
    Change,
    EventSet,
    Vector,
    covers,
    join,
    summary,
)

Heard = tuple[Change, list[Send]]


class Gossip:
    """
    What the peer *name* tells the others of *log*, and what it knows that they have.
    """

    def __init__(
        self,
        name: str,
        life: int,
        log: EventSet,
        clock: Callable[[], float],
        draw: random.Random,
    ) -> None:
        self.known: dict[str, dict[str, int]] = {}  # by peer, also of those away
        self.refused: Counter[str] = Counter()
        self.live: set[str] = set()
        self.catching: CatchUp | None = None
        self._by: dict[str, Any] = {"sender": name, "life": life}
        self._log = log
        self._clock = clock
        self._draw = draw
        # Of a log that was compacted past this one: what has come of it so far.
        self._rebuilt: dict[str, int] | None = None
        self._rebuilt_s = clock()  # when the last of it came
        self._lives: dict[str, int] = {}
        self._asked_s: dict[str, float] = {}
        self._fed_s = clock()  # when the last events came
        self._turns: list[str] = []
        self._next_round_s = clock()

    @property
    def behind(self) -> bool:
        """
        Whether what others have may be missing here.
        """
        return self.catching is not None

    def look(self) -> None:
        """
        Begin to catch up, whatever was caught up with before.
        """
        self.catching = CatchUp(self._draw.getrandbits(53), self._clock())

    def meet(self, live: Iterable[str]) -> list[Send]:
        """
        Take over who is alive; who is new hears from this peer at once.
        """
        before, self.live = self.live, set(live)
        # Who returns may have lost what it had.
        self._lives = {
            name: at for name, at in self._lives.items() if name in self.live
        }
        return [Send(peer, self._digest()) for peer in sorted(self.live - before)]

    def tick(self) -> list[Send]:
        """
        Ask on while catching up, and compare with one peer a round.
        """
        now_s = self._clock()
        sends = self._catch_up(self.catching, now_s) if self.catching else []
        if now_s >= self._next_round_s:
            self._next_round_s = now_s + MESH_DIGEST_S
            sends += [Send(peer, self._digest()) for peer in self._turn()]
        return sends

    def push(self, origin: str, after: int) -> list[Send]:
        """
        Send the events of *origin* past *after* to all that live.
        """
        have = {**self._log.heads, origin: after}
        spans, more = self._log.missing(have, MESH_CHUNK_BYTES)
        events = Events(spans=spans, more=more, **self._by)
        return [Send(peer, events) for peer in sorted(self.live)] if spans else []

    def hear(self, message: Message) -> Heard:
        """
        Take *message* in; returns what it changes and what to answer.
        """
        if message.life < self._lives.get(message.sender, 0):
            self.refused["late"] += 1
            return Change(), []
        if message.life != self._lives.get(message.sender):
            self._lives[message.sender] = message.life
            self.known[message.sender] = {}
        match message:
            case Digest():
                return Change(), self._hear_digest(message)
            case Events():
                return self._hear_events(message)
            case Ack():
                self._note(message.sender, message.heads)
                return Change(), self._go_on(message)
            case Rebuild():
                return Change(), self._rebuild(message.sender)

    def _go_on(self, said: Ack) -> list[Send]:
        has = self.known[said.sender]
        if said.go_on and not covers(has, self._log.floors):
            # An Ack names but a few origins: ask for all before it must rebuild.
            return [Send(said.sender, self._digest())]
        return self._serve(said.sender, has, said.go_on)

    def copies(self, origin: str, seq: int) -> int:
        """
        Count the peers, with this one, that have an event.
        """
        return 1 + sum(has.get(origin, 0) >= seq for has in self.known.values())

    def _note(self, peer: str, heads: Vector) -> None:
        self.known[peer] = join(self.known.get(peer, {}), heads)

    def _digest(self) -> Digest:
        """
        Say as little as will do.
        """
        if self._rebuilt is not None:
            return self._full()
        return Digest(summary=summary(self._log.heads), **self._by)

    def _full(self, **more: Any) -> Digest:
        if self._rebuilt is None:
            return self._told(self._log.heads, **more)
        return self._told(self._rebuilt, rebuilding=True, **more)

    def _told(self, heads: Vector, **more: Any) -> Digest:
        return Digest(summary=summary(heads), heads=dict(heads), **more, **self._by)

    def _catch_up(self, catching: CatchUp, now_s: float) -> list[Send]:
        """
        Ask who has not answered, and go on asking where a chunk was lost.
        """
        sends: list[Send] = []
        if self._rebuilt is not None and now_s > self._rebuilt_s + MESH_MUTE_S:
            # Whoever served it is gone or mute: what there is must do.
            self._rebuilt = None
        owing = sorted(self.live)
        if self._rebuilt is None:
            asking = catching.to_ask(self.live, now_s)
            sends += [Send(peer, self._full(ask=catching.number)) for peer in asking]
            if catching.done(self._log.heads, self.live, now_s):
                self.catching = None
            owing = [each for each in catching.owing(self._log.heads) if each in owing]
        if owing and now_s >= self._fed_s + MESH_ASK_S:
            self._fed_s = now_s
            sends.append(Send(self._draw.choice(owing), self._full(answers=0)))
        return sends

    def _hear_digest(self, said: Digest) -> list[Send]:
        same = said.summary == summary(self._log.heads)
        heads = dict(self._log.heads) if same else said.heads
        if not said.rebuilding and heads is not None:
            self._note(said.sender, heads)
        if self.catching and said.answers is not None and heads is not None:
            self.catching.answer(said.sender, said.answers, heads)
        if said.ask is not None:
            answer = self._told(self._log.heads, answers=said.ask)
            return [
                Send(said.sender, answer),
                *self._serve(said.sender, said.heads or {}),
            ]
        if heads is None:
            return [Send(said.sender, self._full())]
        sends = self._serve(said.sender, heads, rebuilding=said.rebuilding)
        if said.answers is None and not covers(self._log.heads, heads):
            sends.append(Send(said.sender, self._full(answers=0)))
        return sends

    def _hear_events(self, said: Events) -> Heard:
        gap = any(
            span.after > self._log.heads.get(span.origin, 0) for span in said.spans
        )
        self._fed_s = self._clock()
        rebuilding = said.rebuilding and self._rebuilt is not None
        change = self._log.merge(said.spans, rebuilding)
        self._note(said.sender, {span.origin: span.up_to for span in said.spans})
        if rebuilding:
            return change, self._rebuild_on(said)
        origins = {span.origin for span in said.spans}
        heads = {each: self._log.heads.get(each, 0) for each in sorted(origins)}
        go_on = said.more or (gap and self._may_ask(said.sender))
        held = {origin: head for origin, head in heads.items() if head}
        return change, [Send(said.sender, Ack(heads=held, go_on=go_on, **self._by))]

    def _serve(
        self,
        peer: str,
        heads: Vector,
        wanted: bool = True,
        rebuilding: bool = False,
    ) -> list[Send]:
        """
        Send the next chunk of what a peer with *heads* lacks.
        """
        if not wanted:
            return []
        if not rebuilding and not covers(heads, self._log.floors):
            return [Send(peer, Rebuild(**self._by))]
        spans, more = self._log.missing(heads, MESH_CHUNK_BYTES)
        if not spans and not rebuilding:
            return []
        chunk = Events(spans=spans, more=more, rebuilding=rebuilding, **self._by)
        return [Send(peer, chunk)]

    def _rebuild(self, peer: str) -> list[Send]:
        """
        Begin with nothing, and keep what is here until the other's log speaks of it.
        """
        if self._rebuilt is None:
            self._rebuilt, self._rebuilt_s = {}, self._clock()
            self.look()
        return [Send(peer, self._full())]

    def _rebuild_on(self, said: Events) -> list[Send]:
        so_far, gap = self._rebuilt or {}, False
        self._rebuilt_s = self._clock()
        for span in said.spans:
            if span.after <= so_far.get(span.origin, 0):
                so_far = join(so_far, {span.origin: span.up_to})
            else:
                gap = True
        self._rebuilt = so_far if said.more or gap else None
        return [Send(said.sender, self._full())]

    def _may_ask(self, peer: str) -> bool:
        """
        Whether it is time to ask for what is missing before a gap: of a burst of chunks
        past one gap only the first asks.
        """
        now_s = self._clock()
        if now_s < self._asked_s.get(peer, now_s - MESH_ASK_S) + MESH_ASK_S:
            return False
        self._asked_s[peer] = now_s
        return True

    def _turn(self) -> list[str]:
        """
        Name the peer whose turn it is: each of the living once, in an order of chance.
        """
        self._turns = [peer for peer in self._turns if peer in self.live]
        if not self._turns:
            self._turns = self._draw.sample(sorted(self.live), len(self.live))
        return [self._turns.pop()] if self._turns else []
