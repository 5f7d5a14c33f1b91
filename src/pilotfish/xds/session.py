"""One proxy's conversation with the ADS server, without any I/O: requests and changes go in, responses come out.

Both variants of the protocol, delta and state of the world, share what is here: at most one unanswered response for
each type, with later changes merged into a set of names; and the order that Envoy's documentation asks for ("Eventual
consistency considerations"): clusters, endpoints, listeners, routes, and what became superfluous last.

Envoy takes the messages of a stream in their order, so that what depends on a response may follow it at once: answers
are waited for only where something is taken away. A change of all four types then takes one round trip and not three.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pilotfish.xds.source import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, Changes, ProxyConfig, ProxyNode, Resource
from pilotfish.xds.status import Observer, Rejection, TypeState, named_in
from pilotfish.xds.watch import NOTHING, Asked, Update, Watch
from pilotfish.xds.wire import endpoint_name

HOLD = 5.0
"""For how many seconds at most listeners and routes wait for the clusters that they may name, and removals for them."""

_ORDER = {CLUSTER: 0, ENDPOINT: 1, SECRET: 2, LISTENER: 3, ROUTE: 4}
_USERS = (LISTENER, ROUTE)
_USED = (CLUSTER, ENDPOINT)
_APPLIED_ONE_BY_ONE = (LISTENER, CLUSTER)


class Dialect(Protocol):
    """What the two variants of the protocol do differently."""

    looks_ahead: bool
    """Whether a proxy may be sent endpoints that it is about to ask for."""

    def parse(self, message: bytes) -> Any:
        """The request's protobuf message. Raises google.protobuf.message.DecodeError."""
        ...

    def subscribes(self, request: Any) -> bool:
        """Whether a request says anything of subscriptions: most only answer."""
        ...

    def stale(self, watch: Watch, request: Any) -> bool:
        """Whether to ignore a request because it answers a response that is not the last."""
        ...

    def subscribe(self, watch: Watch, request: Any, resources: Mapping[str, Resource], *, first: bool) -> None:
        """Bring the subscription up to date. `first`: the request is the stream's first of its type."""
        ...

    def asks(self, request: Any) -> Asked:
        """What a request subscribes to by name, apart from what it answers."""
        ...

    def select(self, watch: Watch, resources: Mapping[str, Resource]) -> Update:
        """What there is to tell; empty when nothing differs after all."""
        ...

    def encode(self, type_url: str, nonce: str, update: Update) -> bytes: ...


class Session:
    """One stream: what its proxy subscribes to and holds."""

    def __init__(self, dialect: Dialect, node: ProxyNode, config: ProxyConfig, observer: Observer) -> None:
        self._dialect = dialect
        self._node = node
        self._config = config
        self._observer = observer
        self._watches: dict[str, Watch] = {}
        self._warming = NOTHING
        """Endpoints that the proxy was not sent yet and that it needs before clusters sent to it are ready."""
        self._nonces = 0
        self.wake_at: float | None = None
        """The time at which something held back is to go out all the same; None: nothing is held back."""
        self.told = 0
        """How often there was word of changes that concern the proxy; its first word of each type counts too."""
        self.answered = 0
        """Up to which word of these it has answered for all: `told`, as of when there was last nothing left to do."""

    def receive(self, request: Any) -> bool:
        """Take in a request: an acknowledgement, a refusal, a change of subscriptions, or several at once.

        Returns whether there may be something to send now.
        """
        watch = self._watches.get(request.type_url)
        first = watch is None
        self.told += first
        if watch is None:
            watch = Watch(request.type_url)
            watches = [*self._watches.values(), watch]
            self._watches = {w.type_url: w for w in sorted(watches, key=lambda w: _ORDER.get(w.type_url, len(_ORDER)))}
        elif self._dialect.stale(watch, request):
            return False
        if watch.nonce and request.response_nonce == watch.nonce:
            self._answered(watch, request)
            self._config.answered(self)
        if first or self._dialect.subscribes(request):
            if any(asked := self._dialect.asks(request)):
                self._config.asked(watch.type_url, *asked)
            self._dialect.subscribe(watch, request, self._config.resources(watch.type_url), first=first)
        if first and watch.type_url == ENDPOINT:
            watch.forced |= watch.interesting(self._warming)
        self._count_answers()
        return any(not watch.nonce and (watch.due or watch.superfluous) for watch in self._watches.values())

    def changed(self, changes: Changes) -> bool:
        """Take in word of changes; returns whether any of them concerns the proxy."""
        concerned = False
        for type_url, names in changes.items():
            watch = self._watches.get(type_url)
            if watch and (interesting := watch.interesting(names)):
                watch.pending = watch.pending | interesting if watch.pending else interesting
                concerned = True
        self.told += concerned
        return concerned

    def next_response(self, now: float) -> bytes | None:
        """The response to send next, or None when the proxy has to speak or something has to change first.

        `now` is a monotonic time in seconds; see `wake_at`.
        """
        self.wake_at = None
        for watch in self._watches.values():
            if watch.nonce or not watch.due:
                continue
            if watch.type_url in _USERS:
                if self._waits(watch, now, self._unready):
                    continue
                self._warming = NOTHING
            if response := self._compose(watch):
                return response
        for watch in self._watches.values():
            if not watch.superfluous or watch.nonce or self._waits(watch, now, self._unsettled):
                continue
            self._withdraw(watch)
            if response := self._compose(watch):
                return response
        self._count_answers()  # what there was word of may have been nothing new
        return None

    def settled(self, type_url: str, name: str) -> bool:
        """Whether the proxy has answered for a resource as it is now: taken it into force, or refused it."""
        watch = self._watches.get(type_url)
        if watch is None or watch.held.get(name) is None:
            return False
        return not (name in watch.in_flight or name in watch.pending or name in watch.forced)

    def _count_answers(self) -> None:
        if self.answered != self.told and all(w.idle and not w.superfluous for w in self._watches.values()):
            self.answered = self.told

    def state(self) -> dict[str, TypeState]:
        """What the proxy holds, by type."""
        return {type_url: watch.state() for type_url, watch in self._watches.items()}

    @property
    def _unready(self) -> bool:
        """Whether the proxy was not sent all clusters, or their endpoints, that listeners and routes will name."""
        clusters = self._watches.get(CLUSTER)
        return bool(self._warming) or (clusters is not None and clusters.due)

    @property
    def _unsettled(self) -> bool:
        """Whether listeners and routes may still name clusters that are superfluous."""
        return any(not watch.idle for watch in self._watches.values() if watch.type_url in _USERS)

    def _waits(self, watch: Watch, now: float, reason: bool) -> bool:
        """Whether a watch is held back, for a reason that counts for HOLD seconds and no longer."""
        if not reason:
            watch.waiting_since = None
            return False
        if watch.waiting_since is None:
            watch.waiting_since = now
        until = watch.waiting_since + HOLD
        if now < until:
            self.wake_at = until if self.wake_at is None else min(self.wake_at, until)
            return True
        watch.waiting_since = None
        return False

    def _compose(self, watch: Watch) -> bytes | None:
        resources = self._config.resources(watch.type_url)
        if watch.type_url in _USED and not watch.pending <= watch.forced:
            gone = {name for name in watch.pending - watch.forced if name not in resources and watch.held.get(name)}
            watch.pending, watch.superfluous = watch.pending - gone, watch.superfluous | gone
        update = self._dialect.select(watch, resources)
        watch.pending, watch.forced = watch.pending - update.settled, watch.forced - update.settled
        if watch.type_url == ENDPOINT:
            self._warming -= update.settled
        if not (update.resources or update.removed or watch.must_answer):
            return None
        if watch.type_url == CLUSTER:
            self._warm(watch, update.resources)
        self._nonces += 1
        watch.sent(update, str(self._nonces))
        return self._dialect.encode(watch.type_url, watch.nonce, update)

    def _withdraw(self, watch: Watch) -> None:
        """What is superfluous is removed by the next response, unless it has come back."""
        resources = self._config.resources(watch.type_url)
        gone = frozenset(name for name in watch.superfluous if name not in resources and watch.held.get(name))
        watch.forced, watch.superfluous = watch.forced | gone, NOTHING

    def _warm(self, clusters: Watch, sent: Sequence[Resource]) -> None:
        """Envoy waits with a changed cluster until its endpoints come, and does not ask for those that it has already:
        https://github.com/envoyproxy/envoy/issues/13009. So they follow every cluster unasked (Istio: forceEDSPush).

        Those of a new cluster it asks for as it takes the cluster in, thus before it comes to the endpoints that come
        next; but not before it has asked for listeners: its first clusters it makes ready all at once.
        """
        changed = (resource for resource in sent if clusters.differs(resource.name, resource))
        needed = frozenset(name for resource in changed if (name := endpoint_name(CLUSTER, resource)))
        self._warming |= needed
        if endpoints := self._watches.get(ENDPOINT):
            if self._dialect.looks_ahead and LISTENER in self._watches:
                there = self._config.resources(ENDPOINT)
                endpoints.ahead.update(name for name in needed if name in there and not endpoints.subscribed(name))
            endpoints.forced |= endpoints.interesting(needed)

    def _answered(self, watch: Watch, request: Any) -> None:
        changed = watch.answered()
        refused = NOTHING
        if request.HasField("error_detail"):
            refused = self._refused(watch, changed, request.error_detail.message)
        accepted = {name: watch.held.get(name) for name in changed if name not in refused}
        for name in accepted:
            watch.rejected.pop(name, None)
        if not watch.rejected:
            watch.rejection = None
        if accepted:
            self._observer.acknowledged(self._node, watch.type_url, accepted)

    def _refused(self, watch: Watch, changed: Mapping[str, str | None], message: str) -> frozenset[str]:
        """Note a refusal; returns the names that are not in force. Envoy puts the good clusters and listeners of a
        response into force although it refuses the response, and names the others; of other types it takes all or none.
        """
        named = named_in(message, changed)
        refused = frozenset(named if named and watch.type_url in _APPLIED_ONE_BY_ONE else changed)
        watch.rejected.update((name, changed[name]) for name in refused)
        watch.rejection = Rejection(watch.type_url, named or tuple(sorted(changed)), message, dt.datetime.now(dt.UTC))
        if watch.type_url == CLUSTER:
            endpoints = self._watches.get(ENDPOINT)
            self._warming = endpoints.interesting(self._warming) if endpoints else NOTHING
        self._observer.rejected(self._node, watch.rejection)
        return refused
