"""What one stream has of one type: what its proxy subscribes to, what it was told and what it has yet to hear."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pilotfish.xds.source import Resource
from pilotfish.xds.status import Rejection, ResourceState, TypeState

NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Update:
    """What one response tells, and the pending and forced names that are dealt with by it."""

    resources: Sequence[Resource]
    removed: Sequence[str]
    settled: frozenset[str]


class Asked(NamedTuple):
    """What a request asks for: names subscribed to and no longer so, and names that the proxy kept from before."""

    subscribed: Collection[str] = ()
    unsubscribed: Collection[str] = ()
    kept: Collection[str] = ()


class Watch:
    """What one stream has of one type. Sets of names are immutable: a change that many streams see is one set."""

    __slots__ = (
        "accepted_nonce",
        "ahead",
        "answered_at",
        "forced",
        "held",
        "in_flight",
        "must_answer",
        "names",
        "nonce",
        "pending",
        "rejected",
        "rejection",
        "sent_at",
        "sent_nonce",
        "superfluous",
        "type_url",
        "waiting_since",
        "wildcard",
    )

    def __init__(self, type_url: str) -> None:
        self.type_url = type_url
        self.wildcard = False
        self.names: set[str] = set()
        """Asked for by name."""
        self.ahead: set[str] = set()
        """Sent, or about to be, though not asked for yet: the proxy will ask when it has seen what was sent before."""
        self.held: dict[str, str | None] = {}
        """The version last sent of each; None where the proxy was told that there is none."""
        self.pending = NOTHING
        """To be compared with what is held."""
        self.forced = NOTHING
        """To be sent even if it is what the proxy holds."""
        self.superfluous = NOTHING
        """To be removed when nothing uses it any more."""
        self.must_answer = False
        """A response is due even if it is empty."""
        self.nonce = ""
        """Of the unanswered response."""
        self.in_flight: dict[str, str | None] = {}
        """What the unanswered response changes, with the version accepted before."""
        self.rejected: dict[str, str | None] = {}
        """Refused at the version held, with the version accepted before."""
        self.rejection: Rejection | None = None
        self.sent_nonce = self.accepted_nonce = ""
        self.sent_at: dt.datetime | None = None
        self.answered_at: dt.datetime | None = None
        self.waiting_since: float | None = None

    def interesting(self, names: frozenset[str]) -> frozenset[str]:
        """Those of the names that the proxy subscribes to."""
        if self.wildcard:
            return names
        return names.intersection(self.names | self.ahead if self.ahead else self.names)

    def subscribed(self, name: str) -> bool:
        return self.wildcard or name in self.names or name in self.ahead

    @property
    def due(self) -> bool:
        return bool(self.pending or self.forced or self.must_answer)

    @property
    def idle(self) -> bool:
        return not (self.nonce or self.due)

    def differs(self, name: str, resource: Resource | None) -> bool:
        """Whether the proxy has to hear of a resource as it is now (None: there is none)."""
        if name in self.forced:
            return True
        if resource is not None:
            return self.held.get(name) != resource.version
        return self.held.get(name) is not None or (name in self.names and name not in self.held)

    def sent(self, update: Update, nonce: str) -> None:
        """Note what the proxy holds once it has a response."""
        self.nonce = self.sent_nonce = nonce
        self.must_answer = False
        self.sent_at = _utc_now()
        told = [(r.name, r.version) for r in update.resources] + [(name, None) for name in update.removed]
        self.in_flight = {name: self.rejected.get(name, self.held.get(name)) for name, _ in told}
        for name, version in told:
            if version is not None or name in self.names:
                self.held[name] = version
            else:
                self.held.pop(name, None)

    def answered(self) -> dict[str, str | None]:
        """Note that the proxy has answered; gives what the response changed, with the version accepted before.

        What the proxy was sent ahead and has not asked for by now it did not take: it will ask, and be sent it then.
        """
        changed: dict[str, str | None]
        changed, self.in_flight, self.nonce = self.in_flight, {}, ""
        self.accepted_nonce, self.answered_at = self.sent_nonce, _utc_now()
        for name in self.ahead.intersection(changed) - self.forced:
            self.ahead.discard(name)
            self.held.pop(name, None)
        return changed

    def forget(self, name: str) -> None:
        """The proxy holds a name no more, and was told of no refusal."""
        self.held.pop(name, None)
        self.rejected.pop(name, None)

    def state(self) -> TypeState:
        """What is known of the type on this stream."""
        return TypeState(
            type_url=self.type_url,
            wildcard=self.wildcard,
            nonce_sent=self.sent_nonce,
            nonce_acked=self.accepted_nonce,
            sent_at=self.sent_at,
            answered_at=self.answered_at,
            waiting=len(self.pending | self.forced | self.superfluous),
            resources=tuple(self._resource_states()),
            rejection=self.rejection,
        )

    def _resource_states(self) -> Iterator[ResourceState]:
        for name, version in sorted(self.held.items()):
            if name in self.in_flight:
                yield ResourceState(name, version, self.in_flight[name], "SENT")
            elif name in self.rejected:
                message = self.rejection.message if self.rejection else ""
                yield ResourceState(name, version, self.rejected[name], "NACKED", message)
            else:
                yield ResourceState(name, version, version, "ACKED")


def _utc_now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
