"""What VirtualServices and DestinationRules say of hosts, found by the host that is meant.

A policy names hosts, by wildcards too; which of several has its way depends on who asks: on its namespace, and on its
labels where a policy selects by labels. A change costs the policies of the hosts that it names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from pilotfish.api import networking
from pilotfish.api.meta import Object
from pilotfish.api.networking.destination_rule import Subset, TrafficPolicy
from pilotfish.api.networking.virtual_service import VirtualServiceSpec
from pilotfish.mesh.delegates import Delegates
from pilotfish.mesh.gateway_names import MESH_GATEWAY, gateway_name
from pilotfish.mesh.hostnames import resolve
from pilotfish.mesh.imports import Binding, Egress, bindings
from pilotfish.mesh.index import HostnameMap, MultiMap
from pilotfish.mesh.locality import looks_at
from pilotfish.mesh.meshconfig import MeshConfig
from pilotfish.mesh.records import Age, Host, Labels, ObjectKey, Record, Service, exported, labels_of, visible


class Exports(Record):
    """Who sees what does not say it: namespaces, "*" for all, "." for its own (MeshConfig: default…ExportTo)."""

    services: tuple[str, ...] = ("*",)
    virtual_services: tuple[str, ...] = ("*",)
    destination_rules: tuple[str, ...] = ("*",)


BY_DEFAULT = Exports()


def exports_of(mesh: MeshConfig) -> Exports:
    return Exports(
        mesh.default_service_export_to,
        mesh.default_virtual_service_export_to,
        mesh.default_destination_rule_export_to,
    )


class Viewer(Record):
    """Who looks at the mesh: `labels` are those that some policy tells proxies apart by, and no others.

    `egress` says what is imported of what the namespace sees; everything where there is none. `egress_proxy` is the
    host to which goes what is for no host that is seen, or "".
    """

    namespace: str
    labels: Labels = ()
    egress: tuple[Egress, ...] = ()
    egress_proxy: str = ""

    def bindings(self, service: Service, port: int) -> tuple[Binding, ...]:
        """Where the viewer reaches a port of a service (see `imports.bindings`)."""
        return bindings(self.egress, service.namespace, service.hostname.lower(), port)

    def imports(self, host: Host) -> Host | None:
        """A host with the ports that the viewer sees of it; None where that is none."""
        if not self.egress:
            return host
        service = host.service
        ports = tuple(port for port in service.ports if self.bindings(service, port.number))
        if len(ports) == len(service.ports):
            return host if ports or bindings(self.egress, service.namespace, service.hostname.lower(), 0) else None
        if not ports:
            return None
        return msgspec.structs.replace(host, service=msgspec.structs.replace(service, ports=ports))

    def follows(self, routing: Routing) -> bool:
        """Whether a VirtualService is imported, with one of its hosts."""
        hosts = ((egress, host) for egress in self.egress for host in routing.hosts)
        return not self.egress or any(egress.imports(routing.namespace, host) for egress, host in hosts)


class Routing(Record):
    """A VirtualService: `hosts` and `destinations` are whole names, `gateways` are "mesh" or "<namespace>/<name>"."""

    key: ObjectKey
    created: str
    hosts: tuple[str, ...]
    gateways: tuple[str, ...]
    export_to: tuple[str, ...]
    destinations: tuple[str, ...]
    label_keys: tuple[str, ...]
    spec: VirtualServiceSpec

    @property
    def namespace(self) -> str:
        return self.key.namespace

    @property
    def age(self) -> Age:
        return self.created, self.key.namespace, self.key.name, ""


class Rule(Record):
    """One or more DestinationRules of one namespace for one host; `sources` are they."""

    sources: tuple[ObjectKey, ...]
    created: str
    host: str
    export_to: tuple[str, ...]
    selector: Labels
    traffic_policy: TrafficPolicy | None
    subsets: tuple[Subset, ...]

    @property
    def namespace(self) -> str:
        return self.sources[0].namespace

    @property
    def age(self) -> Age:
        return self.created, self.namespace, self.sources[0].name, ""

    @property
    def policies(self) -> Iterator[TrafficPolicy]:
        """Its traffic policy, and those of its subsets."""
        yield from filter(None, (self.traffic_policy, *(subset.traffic_policy for subset in self.subsets)))

    def subset(self, name: str) -> Subset | None:
        return next((subset for subset in self.subsets if subset.name == name), None)


class Policies:
    """All policies of the mesh. `apply` answers with the hosts that they are about, as names or wildcards."""

    def __init__(self, cluster_domain: str, root_namespace: str, exports: Exports) -> None:
        self._cluster_domain = cluster_domain
        self.root_namespace = root_namespace
        self._exports = exports
        self._delegates = Delegates(cluster_domain)
        self._routings: dict[ObjectKey, Routing] = {}
        self._routings_of: HostnameMap[ObjectKey] = HostnameMap()  # host name or wildcard → its VirtualServices
        self._routings_to: MultiMap[str, ObjectKey] = MultiMap()  # destination → VirtualServices that lead there
        self._routings_at: MultiMap[str, ObjectKey] = MultiMap()  # gateway → its VirtualServices
        self._rules: dict[ObjectKey, Rule] = {}
        self._rules_of: dict[
            str, HostnameMap[ObjectKey]
        ] = {}  # namespace → host name or wildcard → its DestinationRules
        self._label_keys: Counter[str] = Counter()
        self._by_place = 0  # rules to which it matters where clients are

    # Reading

    @property
    def label_keys(self) -> frozenset[str]:
        """The labels by which policies tell proxies apart."""
        return frozenset(self._label_keys)

    @property
    def by_place(self) -> bool:
        """Whether policies tell proxies apart by where they are."""
        return self._by_place > 0

    def host_names(self) -> Iterator[str]:
        """The names and wildcards that VirtualServices of the mesh route."""
        return iter(self._routings_of)

    def routings(self, viewer: Viewer, hostname: str) -> tuple[tuple[Routing, ...], ...]:
        """The VirtualServices by which sidecars send what is for a host, those with the most specific host first.

        Of one host first comes what is exported to the fewest, then the oldest (Istio's order).
        """
        found: list[tuple[Routing, ...]] = []
        known: set[ObjectKey] = set()
        for keys in self._routings_of.about(hostname):
            routings = [self._routings[key] for key in keys if key not in known]
            known.update(keys)
            if group := [routing for routing in routings if self._routes(viewer, routing)]:
                found.append(tuple(sorted(group, key=self._precedence)))
        return tuple(found)

    def _routes(self, viewer: Viewer, routing: Routing) -> bool:
        return MESH_GATEWAY in routing.gateways and self.sees(viewer.namespace, routing) and viewer.follows(routing)

    def leads(self, viewer: Viewer, hostname: str) -> bool:
        """Whether some VirtualService leads the viewer's requests to a host."""
        return any(self._routes(viewer, routing) for routing in self.routed_to(hostname))

    def sees(self, namespace: str, policy: Routing | Rule) -> bool:
        """Whether a policy is for proxies of a namespace."""
        return visible(self._reach(policy), policy.namespace, namespace)

    def _reach(self, policy: Routing | Rule) -> tuple[str, ...]:
        if policy.export_to:
            return policy.export_to
        return self._exports.virtual_services if isinstance(policy, Routing) else self._exports.destination_rules

    def _delegates_to(self, delegate: ObjectKey, export_to: tuple[str, ...], namespace: str) -> bool:
        reach = exported(export_to) or self._exports.virtual_services
        return visible(reach, delegate.namespace, namespace)

    def _precedence(self, routing: Routing) -> tuple[int, Age]:
        reach = self._reach(routing)
        return 2 if "*" in reach else 0 if reach == (".",) else 1, routing.age

    def at_gateway(self, gateway: str) -> list[Routing]:
        """The VirtualServices that name a gateway ("<namespace>/<name>"), the oldest first."""
        return sorted((self._routings[key] for key in self._routings_at[gateway]), key=lambda routing: routing.age)

    def naming(self, hostname: str) -> Iterator[Routing]:
        """The VirtualServices that have a host name or wildcard among their hosts, word for word."""
        return (self._routings[key] for key in self._routings_of[hostname])

    def routed_to(self, hostname: str) -> Iterator[Routing]:
        """The VirtualServices that have a host among their destinations."""
        return (self._routings[key] for key in self._routings_to[hostname])

    def rule(self, viewer: Viewer, service: Service) -> Rule | None:
        """What is to be done on the way to a service: the rule of the client's namespace, else of the service's, else
        of the root namespace; there the rule with the most specific host (Istio).

        One that selects the client by its labels goes before one for all.
        """
        hostname = service.hostname.lower()
        own_rules = self._in_namespace(
            viewer, viewer.namespace, hostname, private=viewer.namespace == self.root_namespace
        )
        if own_rules:
            return _chosen(own_rules, viewer)
        for namespace in (service.namespace, self.root_namespace):
            if found := self._in_namespace(viewer, namespace, hostname):
                return _chosen(found, viewer)
        return None

    def _in_namespace(self, viewer: Viewer, namespace: str, hostname: str, *, private: bool = False) -> list[Rule]:
        of_namespace = self._rules_of.get(namespace)
        for keys in of_namespace.about(hostname) if of_namespace else ():
            rules = [self._rules[key] for key in keys]
            found = [r for r in rules if self.sees(viewer.namespace, r) and (not private or self._reach(r) == (".",))]
            if found:
                return found
        return []

    # Changing

    def export_by_default(self, exports: Exports) -> frozenset[str]:
        """Change who sees policies that do not say it; gives what `apply` gives."""
        self._exports = exports
        routings = [routing for routing in self._routings.values() if not routing.export_to]
        routed = (host for routing in routings for host in (*routing.hosts, *routing.destinations))
        ruled = (rule.host for rule in self._rules.values() if not rule.export_to)
        return frozenset((*routed, *ruled)).union(*map(self._route_again, self._delegates.roots()))

    def apply(self, before: Object | None, after: Object | None) -> frozenset[str]:
        """Take in a changed policy; gives the host names and wildcards of which it said or says something, among them
        those to which it led or leads.
        """
        match after if after is not None else before:
            case networking.VirtualService() as obj:
                key = ObjectKey("VirtualService", obj.namespace, obj.name)
                roots = self._delegates.put(key, obj if after is not None else None)
                changed = self._route(key, obj if after is not None else None)
                return changed.union(*map(self._route_again, roots))
            case networking.DestinationRule() as obj:
                key = ObjectKey("DestinationRule", obj.namespace, obj.name)
                return self._rule(key, obj if after is not None else None)
        return frozenset()

    def _route_again(self, root: ObjectKey) -> frozenset[str]:
        """Look again at a VirtualService whose delegates may not be what they were."""
        return self._route(root, self._delegates.root(root))

    def _route(self, key: ObjectKey, obj: networking.VirtualService | None) -> frozenset[str]:
        before = self._routings.pop(key, None)
        after = self._routing_of(key, obj) if obj is not None and obj.spec.hosts else None
        if before is not None:
            for host in before.hosts:
                self._routings_of.remove(host, key)
            for host in before.destinations:
                self._routings_to.remove(host, key)
            for gateway in before.gateways:
                self._routings_at.remove(gateway, key)
            self._count(before.label_keys, -1)
        if after is not None:
            self._routings[key] = after
            for host in after.hosts:
                self._routings_of.add(host, key)
            for host in after.destinations:
                self._routings_to.add(host, key)
            for gateway in after.gateways:
                self._routings_at.add(gateway, key)
            self._count(after.label_keys, 1)
        if before == after:
            return frozenset()
        routings = [routing for routing in (before, after) if routing is not None]
        return frozenset(host for routing in routings for host in (*routing.hosts, *routing.destinations))

    def _rule(self, key: ObjectKey, obj: networking.DestinationRule | None) -> frozenset[str]:
        before = self._rules.pop(key, None)
        after = self._rule_of(key, obj) if obj is not None else None
        if before is not None:
            self._rules_of[key.namespace].remove(before.host, key)
            self._look_at(before, -1)
        if after is not None:
            self._rules[key] = after
            self._rules_of.setdefault(key.namespace, HostnameMap()).add(after.host, key)
            self._look_at(after, 1)
        if before == after:
            return frozenset()
        return frozenset(rule.host for rule in (before, after) if rule is not None)

    def _look_at(self, rule: Rule, by: int) -> None:
        labels, places = looks_at(rule.policies)
        self._count((*labels, *(name for name, _ in rule.selector)), by)
        self._by_place += by if places else 0

    def _count(self, label_keys: Iterable[str], by: int) -> None:
        for name in label_keys:
            self._label_keys[name] += by
            if not self._label_keys[name]:
                del self._label_keys[name]

    def _resolve(self, host: str, namespace: str) -> str:
        return resolve(host, namespace, self._cluster_domain)

    def _routing_of(self, key: ObjectKey, obj: networking.VirtualService) -> Routing:
        spec = self._delegates.merged(obj, self._delegates_to)
        namespace = key.namespace
        return Routing(
            key=key,
            created=obj.metadata.creation_timestamp or "",
            hosts=tuple(dict.fromkeys(self._resolve(host, namespace) for host in spec.hosts)),
            gateways=tuple(dict.fromkeys(gateway_name(name, namespace) for name in spec.gateways)) or (MESH_GATEWAY,),
            export_to=exported(spec.export_to),
            destinations=tuple(dict.fromkeys(self._resolve(host, namespace) for host in _destinations(spec))),
            label_keys=tuple(sorted(_label_keys(spec))),
            spec=spec,
        )

    def _rule_of(self, key: ObjectKey, obj: networking.DestinationRule) -> Rule:
        spec = obj.spec
        return Rule(
            sources=(key,),
            created=obj.metadata.creation_timestamp or "",
            host=self._resolve(spec.host, key.namespace),
            export_to=exported(spec.export_to),
            selector=labels_of(spec.workload_selector.match_labels) if spec.workload_selector else (),
            traffic_policy=spec.traffic_policy,
            subsets=spec.subsets,
        )


def _destinations(spec: VirtualServiceSpec) -> Iterator[str]:
    for http in spec.http:
        yield from (to.destination.host for to in http.route)
        yield from (mirror.destination.host for mirror in http.mirrors)
        if http.mirror is not None:
            yield http.mirror.host
    for tls in spec.tls:
        yield from (to.destination.host for to in tls.route)
    for tcp in spec.tcp:
        yield from (to.destination.host for to in tcp.route)


def _label_keys(spec: VirtualServiceSpec) -> set[str]:
    http = {name for route in spec.http for match in route.match for name in match.source_labels}
    tls = {name for route in spec.tls for match in route.match for name in match.source_labels}
    tcp = {name for route in spec.tcp for match in route.match for name in match.source_labels}
    return http | tls | tcp


def _chosen(rules: list[Rule], viewer: Viewer) -> Rule | None:
    """Those of one namespace and host as one rule: the oldest's policy, and every subset once (Istio)."""
    labels = set(viewer.labels)
    ordered = sorted(rules, key=lambda rule: rule.age)
    selecting = [r for r in ordered if r.selector and r.namespace == viewer.namespace and labels.issuperset(r.selector)]
    group = [r for r in selecting if r.selector == selecting[0].selector] or [r for r in ordered if not r.selector]
    if len(group) < 2:
        return group[0] if group else None
    subsets = {subset.name: subset for rule in reversed(group) for subset in reversed(rule.subsets)}
    return msgspec.structs.replace(
        group[0],
        sources=tuple(key for rule in group for key in rule.sources),
        traffic_policy=next((r.traffic_policy for r in group if r.traffic_policy is not None), None),
        subsets=tuple(reversed(subsets.values())),
    )
