"""From a query's bytes to an answer's: what the mesh knows is said at once, the rest is asked upstream."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pilotfish.api.demand import Demand
from pilotfish.node.dns import wire
from pilotfish.node.dns.counters import Counters
from pilotfish.node.dns.demands import Demands
from pilotfish.node.dns.hot import HotAnswers
from pilotfish.node.dns.table import EVERYONE, GATEWAY, Addresses, Lookup, NameRecord, Table
from pilotfish.node.dns.upstream import Upstream
from pilotfish.node.dns.wire import Query, Rcode

log = logging.getLogger(__name__)

MAX_TCP_SIZE = 65535
_ROTATIONS = 8
"""How many orders of a name's addresses are prepared."""


@dataclass(slots=True)
class View:
    """What one kind of client sees: the pods of a namespace, one pod with a sidecar, or those without."""

    scopes: tuple[str, ...]
    search: frozenset[bytes]
    hot: HotAnswers
    pod: str = ""
    """The address of the one pod whose view it is, where the pod's proxy is to have what is looked up."""


@dataclass(frozen=True, slots=True)
class Held:
    """A query whose answer waits until the pod's proxy has the host."""

    query: Query
    view: View
    demand: Demand

    @property
    def packet(self) -> bytes:
        return self.query.packet


@dataclass(frozen=True, slots=True)
class Aliased:
    """A query for an alias of a name that is not ours: `asked` is what is asked upstream for it."""

    query: Query
    canonical: bytes
    asked: Query

    @property
    def packet(self) -> bytes:
        return self.query.packet


Later = Query | Held | Aliased
"""What `Responder.resolve` must be awaited for."""


class Responder:
    """Answers queries for all clients of the node."""

    def __init__(
        self, table: Table, upstream: Upstream, cluster_domain: str, counters: Counters, demands: Demands | None = None
    ) -> None:
        """Without `demands` no answer waits for a proxy."""
        self._table = table
        self._upstream = upstream
        self._cluster_domain = cluster_domain
        self._domain = wire.encode_name(cluster_domain).lower()
        self._counters = counters
        self._demands = demands
        if demands is not None:
            demands.on_revoked = self._revoked
        self._pods: dict[str, View] = {}
        self._views: dict[str, View] = {}
        self._informed = False

    def view(self, namespace: str) -> View:
        """The view of a namespace's pods, the same for all of them."""
        if namespace not in self._views:
            scopes = (namespace, EVERYONE)
            self._views[namespace] = View(scopes, self._search(namespace), HotAnswers())
        return self._views[namespace]

    def pod_view(self, namespace: str, address: str) -> View:
        """The view of one pod with a sidecar: that of its namespace, in which each host is new to it at first."""
        self.forget_pod(address)
        scopes = (namespace, EVERYONE)
        self._pods[address] = View(scopes, self._search(namespace), HotAnswers(), address)
        return self._pods[address]

    def forget_pod(self, address: str) -> None:
        """The pod at an address is gone, and what it asked for."""
        if self._pods.pop(address, None) is not None and self._demands is not None:
            self._demands.forget(address)

    def _revoked(self, demand: Demand) -> None:
        """A pod's proxy lacks a host that it had."""
        if view := self._pods.get(demand.address):
            view.hot.clear()

    def gateway_view(self) -> View:
        """The view of clients without a sidecar: the Kubernetes registry's names, as a cluster's own DNS has them."""
        if GATEWAY not in self._views:
            self._views[GATEWAY] = View((GATEWAY,), frozenset(), HotAnswers())
        return self._views[GATEWAY]

    def _search(self, namespace: str) -> frozenset[bytes]:
        """The search domains in the resolv.conf of a namespace's pods (kubelet's ClusterFirst policy)."""
        domain = self._cluster_domain
        ours = (f"{namespace}.svc.{domain}", f"svc.{domain}", domain)
        return frozenset(wire.encode_name(d).lower() for d in (*ours, *self._upstream.search))

    def update(self, changed: Iterable[NameRecord], removed: Iterable[str]) -> None:
        """Apply a change of the name table; answers given from here on are the new ones."""
        self._informed = True
        touched = self._table.update(changed, removed)
        for view in (*self._views.values(), *self._pods.values()):
            view.hot.forget(touched)

    def search_changed(self) -> None:
        """The host's search domains, which pods have too, are other ones now."""
        for namespace, view in self._views.items():
            if namespace != GATEWAY:
                view.search = self._search(namespace)
            view.hot.clear()
        for view in self._pods.values():
            view.search = self._search(view.scopes[0])
            view.hot.clear()

    def respond(self, view: View, packet: bytes, *, tcp: bool) -> bytes | Later | None:
        """The answer without its id; or what `resolve` must be awaited for; None says nothing at all.

        Raises nothing, whatever the packet: one that nobody thought of must not end the service of all pods.
        """
        try:
            return self._respond(view, packet, tcp=tcp)
        except Exception:
            self._counters.internal_errors += 1
            log.exception("a query could not be answered: %s", packet.hex())
            return None

    def _respond(self, view: View, packet: bytes, *, tcp: bool) -> bytes | Later | None:
        query = wire.read_query(packet)
        if query is None:
            self._counters.dropped += 1
            return None
        if isinstance(query, wire.Refusal):
            self._counters.refused += 1
            return query.body
        if query.qclass not in (wire.Class.IN, wire.Class.ANY):
            return self._ask_upstream(query, tcp=tcp)
        found = self._table.lookup(view.scopes, view.search, query.name)
        if found.addresses is None:
            return self._not_ours(view, query, found, tcp=tcp)
        if not (view.pod and self._demands and found.addresses.of_type(query.qtype)):
            return self._build(view, query, found.addresses, found, tcp=tcp)
        demand = Demand(view.pod, found.host)
        if self._demands.hold(demand):
            return Held(query, view, demand)
        keep = self._demands.fulfilled(demand)
        return self._build(view, query, found.addresses, found, tcp=tcp, keep=keep)

    def _build(
        self, view: View, query: Query, addresses: Addresses, found: Lookup, *, tcp: bool, keep: bool = True
    ) -> bytes:
        """The answer for a name of ours; `keep` it for all who ask the same."""
        self._counters.built += 1
        turns = _owned(query, addresses, found)
        if tcp:
            return wire.answer(query, records=random.choice(turns))
        bodies = [wire.answer(query, records=records) for records in turns]
        if any(len(body) + wire.ID_SIZE > query.udp_limit for body in bodies):
            self._counters.truncated += 1
            bodies = [wire.truncated(query, records) for records in turns]
        if query.plain and keep:
            view.hot.add(query.packet[wire.ID_SIZE :], bodies, found.consulted)
        return bodies[0]

    def _not_ours(self, view: View, query: Query, found: Lookup, *, tcp: bool) -> bytes | Later:
        """A name without addresses in the mesh: unknown, or an alias of such a name."""
        if not found.canonical:
            return self._unknown(view, query, found.consulted, tcp=tcp)
        if self._in_mesh_domain(found.canonical.lower()):
            return self._aliased(query, found.canonical, Rcode.NXDOMAIN, tcp=tcp)
        if query.qtype not in (wire.Type.A, wire.Type.AAAA):
            return wire.answer(query, records=wire.alias_records(query, found.canonical, ()))
        asked = wire.asking_for(query, found.canonical)
        known = self._upstream.known(asked)
        if known is None:
            return Aliased(query, found.canonical, asked)
        return self._aliased(query, found.canonical, known, tcp=tcp)

    def _aliased(self, query: Query, canonical: bytes, outcome: bytes | Rcode, *, tcp: bool) -> bytes:
        """The answer for an alias, from what was found for the name that it is an alias of."""
        if isinstance(outcome, Rcode):
            return wire.answer(query, outcome, wire.alias_records(query, canonical, ()), authoritative=False)
        if wire.rcode_of(outcome) not in (Rcode.NOERROR, Rcode.NXDOMAIN):
            return wire.answer(query, Rcode.SERVFAIL, authoritative=False)
        try:
            addresses = wire.addresses_in(b"\0" * wire.ID_SIZE + outcome, query.qtype)
        except wire.Malformed as error:
            log.debug("the upstream's answer for an alias cannot be read: %s", error)
            return wire.answer(query, Rcode.SERVFAIL, authoritative=False)
        records = wire.alias_records(query, canonical, addresses)
        rcode = Rcode.NXDOMAIN if wire.rcode_of(outcome) == Rcode.NXDOMAIN else Rcode.NOERROR
        body = wire.answer(query, rcode, records, authoritative=False)
        if len(body) + wire.ID_SIZE > _limit(query, tcp=tcp):
            self._counters.truncated += 1
            return wire.truncated(query, records)
        return body

    def _unknown(self, view: View, query: Query, consulted: Sequence[bytes], *, tcp: bool) -> bytes | Query:
        """A name that nobody in the mesh owns, as far as the table knows: every such lookup comes through here."""
        if not self._in_mesh_domain(query.name):
            return self._ask_upstream(query, tcp=tcp)
        if not self._informed:
            # Without a name table nobody can say that a name of the mesh does not exist; clients try again.
            return wire.answer(query, Rcode.SERVFAIL, authoritative=False)
        self._counters.unknown_in_mesh_domain += 1
        body = wire.answer(query, Rcode.NXDOMAIN)
        if query.plain and not tcp:
            view.hot.add(query.packet[wire.ID_SIZE :], [body], consulted)
        return body

    def _in_mesh_domain(self, name: bytes) -> bool:
        at = len(name) - len(self._domain)
        return name.endswith(self._domain) and (at == 0 or at in wire.label_offsets(name))

    def _ask_upstream(self, query: Query, *, tcp: bool) -> bytes | Query:
        """What is known without asking: an answer that is still fresh, or that there is nobody to ask."""
        known = self._upstream.known(query)
        if known is None or (isinstance(known, bytes) and len(known) + wire.ID_SIZE > _limit(query, tcp=tcp)):
            return query
        return self._outcome(query, known, tcp=tcp)

    async def resolve(self, later: Later, *, tcp: bool) -> bytes:
        """The answer without its id to a query that had to wait: ours, or the upstream's, or our error."""
        if isinstance(later, Query):
            return self._outcome(later, await self._upstream.ask(later, tcp=tcp), tcp=tcp)
        if isinstance(later, Aliased):
            outcome = await self._upstream.ask(later.asked, tcp=tcp)
            return self._aliased(later.query, later.canonical, outcome, tcp=tcp)
        assert self._demands is not None
        await self._demands.wait(later.demand)
        view, query = later.view, later.query
        found = self._table.lookup(view.scopes, view.search, query.name)
        if found.addresses is not None:
            keep = self._demands.fulfilled(later.demand) and found.host == later.demand.host
            return self._build(view, query, found.addresses, found, tcp=tcp, keep=keep)
        unknown = self._not_ours(view, query, found, tcp=tcp)
        return unknown if isinstance(unknown, bytes) else await self.resolve(unknown, tcp=tcp)

    def _outcome(self, query: Query, outcome: bytes | Rcode, *, tcp: bool) -> bytes:
        if isinstance(outcome, Rcode):
            return wire.answer(query, outcome, authoritative=False)
        if len(outcome) + wire.ID_SIZE > _limit(query, tcp=tcp):
            self._counters.truncated += 1
            return wire.truncated(query)
        return outcome


def _limit(query: Query, *, tcp: bool) -> int:
    return MAX_TCP_SIZE if tcp else query.udp_limit


def _owned(query: Query, addresses: Addresses, found: Lookup) -> list[list[bytes]]:
    """A name of ours as records, to be given in turn: the order of addresses rotates, as Istio shuffles it."""
    chosen = addresses.of_type(query.qtype)
    rotations = [chosen[n:] + chosen[:n] for n in range(min(len(chosen), _ROTATIONS))] or [()]
    target = found.canonical
    if not target and found.alias_length and chosen:
        target = query.question[: found.alias_length] + b"\0"
    if target:
        return [wire.alias_records(query, target, rotation) for rotation in rotations]
    return [wire.address_records(rotation) for rotation in rotations]
