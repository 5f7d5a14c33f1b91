"""The model of the mesh: API objects go in, hosts and workloads come out, and word of which of them changed.

`Model.apply` costs what the changed objects touch and nothing for the rest: an EndpointSlice touches its service's
host, a pod the hosts that hold or select it, a Service or ServiceEntry the hosts that it names.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from pilotfish.api import core, discovery, networking
from pilotfish.api.meta import Object
from pilotfish.api.pods import Pod
from pilotfish.mesh import translate
from pilotfish.mesh.aliases import Aliases
from pilotfish.mesh.envoy_filters import EnvoyFilters
from pilotfish.mesh.gateways import Gateways
from pilotfish.mesh.hostnames import matches
from pilotfish.mesh.hosts import assemble, choose, reached_at
from pilotfish.mesh.imports import Sidecars
from pilotfish.mesh.index import LabelIndex, MultiMap, SelectorIndex
from pilotfish.mesh.meshconfig import ROOT_NAMESPACE
from pilotfish.mesh.policies import BY_DEFAULT, Exports, Policies, Viewer
from pilotfish.mesh.records import (
    Host,
    HostKey,
    Labels,
    ObjectKey,
    Registry,
    Resolution,
    SecretKey,
    Service,
    Target,
    Workload,
    WorkloadKey,
    WorkloadKind,
)
from pilotfish.mesh.seen import Destination, Seen
from pilotfish.mesh.translate import Declaration, Slice

Change = tuple[Object | None, Object | None]
"""An object before and after: (None, new) when it was created, (old, None) when it was deleted."""


@dataclass(frozen=True, slots=True)
class Touched:
    """What a batch of changes did: each host and workload that is not what it was, before and after.

    `names` are the host names (in lower case) to look at again: those of the hosts, and those that changed policies are
    about; `policies` are those alone, as names and wildcards. `gateways` ("<namespace>/<name>") and `secrets` are those
    that are not what they were, `sidecars` and `envoy_filters` say whether a Sidecar or an EnvoyFilter is not.
    """

    hosts: Mapping[HostKey, tuple[Host | None, Host | None]] = field(default_factory=dict)
    workloads: Mapping[WorkloadKey, tuple[Workload | None, Workload | None]] = field(default_factory=dict)
    names: frozenset[str] = frozenset()
    policies: frozenset[str] = frozenset()
    gateways: frozenset[str] = frozenset()
    secrets: frozenset[SecretKey] = frozenset()
    sidecars: bool = False
    envoy_filters: bool = False

    def __bool__(self) -> bool:
        found = (self.hosts, self.workloads, self.names, self.gateways, self.secrets, self.sidecars, self.envoy_filters)
        return any(found)


class Model:
    """All hosts and workloads of the mesh, as the objects that were applied so far define them."""

    def __init__(
        self,
        cluster_domain: str = "cluster.local",
        exports: Exports = BY_DEFAULT,
        root_namespace: str = ROOT_NAMESPACE,
    ) -> None:
        self.cluster_domain = cluster_domain
        self.root_namespace = root_namespace
        self._exports = exports
        self.policies = Policies(cluster_domain, root_namespace, exports)
        self.gateways = Gateways()
        self.sidecars = Sidecars(root_namespace)
        self.envoy_filters = EnvoyFilters(root_namespace)
        self._secrets: dict[SecretKey, core.Secret | core.ConfigMap] = {}
        self._hosts: dict[HostKey, Host] = {}
        self._namespaces_of: MultiMap[str, str] = MultiMap()  # host name in lower case → namespaces that define it
        self._exported: MultiMap[str, HostKey] = MultiMap()  # namespace, or "*" for all → hosts that it sees
        self._aliases = Aliases()
        self._close = 0  # hosts whose clients are to prefer what is close
        self._declared_by: dict[ObjectKey, tuple[Declaration, ...]] = {}
        self._declarations: dict[HostKey, dict[ObjectKey, Declaration]] = {}
        self._listing: MultiMap[str, HostKey] = MultiMap()  # address → hosts whose ServiceEntry lists or selects it
        self._selecting: SelectorIndex[HostKey] = SelectorIndex()  # Kubernetes services by their selector
        self._workload_selecting: SelectorIndex[tuple[ObjectKey, HostKey]] = SelectorIndex()
        self._slices: dict[ObjectKey, Slice] = {}
        self._slices_of: MultiMap[HostKey, ObjectKey] = MultiMap()
        self._slices_with: MultiMap[WorkloadKey, ObjectKey] = MultiMap()
        self._workloads: dict[WorkloadKey, Workload] = {}
        self._pods_at: MultiMap[str, WorkloadKey] = MultiMap()
        self._inline: MultiMap[str, tuple[ObjectKey, HostKey]] = MultiMap()  # address → endpoints written into entries
        self._labelled: dict[WorkloadKind, LabelIndex[WorkloadKey]] = {kind: LabelIndex() for kind in WorkloadKind}

    def empty(self) -> Model:
        """A model of nothing under the same rules."""
        return Model(self.cluster_domain, self._exports, self.root_namespace)

    # Reading

    def host(self, key: HostKey) -> Host | None:
        return self._hosts.get(key)

    def hosts(self) -> Iterator[Host]:
        """Every host of every namespace."""
        return iter(self._hosts.values())

    def host_names(self) -> Iterator[str]:
        """Every host name of the registry and of policies that route, in lower case."""
        yield from self._namespaces_of
        yield from (name for name in self.policies.host_names() if not self._namespaces_of.count(name))

    @property
    def by_place(self) -> bool:
        """Whether hosts or policies tell proxies apart by where they are."""
        return self._close > 0 or self.policies.by_place

    def names_seen(self, namespace: str) -> Iterable[str]:
        """Every host name that proxies of a namespace may know, in lower case: what others keep to themselves costs
        nothing.
        """
        keys = (key for reach in ("*", namespace) for key in self._exported[reach])
        return dict.fromkeys((*(key.hostname for key in keys), *self.policies.host_names()))

    def definitions(self, hostname: str) -> list[Host]:
        """Each namespace's definition of a host name (in lower case)."""
        return [self._hosts[HostKey(namespace, hostname)] for namespace in self._namespaces_of[hostname]]

    def seen_from(self, namespace: str, hostname: str) -> Host | None:
        """The host that proxies of a namespace mean by a name (in lower case): their own, else the oldest they see."""
        return choose(self.definitions(hostname), namespace)

    def look(self, viewer: Viewer, hostname: str) -> Seen | None:
        """A host with the policies that apply to it; None where the viewer sees neither it nor what would route it."""
        host = self._imported(viewer, hostname)
        if host is None and viewer.egress and self._led(viewer, hostname):
            host = self.seen_from(viewer.namespace, hostname)
            if host is not None:
                return Seen(hostname, host, self.policies.rule(viewer, host.service), aside=True)
        routings = self.policies.routings(viewer, hostname)
        routed = [routing for group in routings for routing in group]
        if host is None and not any(hostname in routing.hosts for routing in routed):
            return None
        names = dict.fromkeys(name for routing in routed for name in routing.destinations)
        destinations = (self._destination(viewer, name) for name in names)
        rule = self.policies.rule(viewer, host.service) if host else None
        return Seen(
            hostname,
            host,
            rule,
            routings,
            tuple(d for d in destinations if d is not None),
            stands_for=self._stands_for(viewer, host.service) if host and routed else None,
        )

    def _led(self, viewer: Viewer, hostname: str) -> bool:
        return hostname == viewer.egress_proxy or self.policies.leads(viewer, hostname)

    def _imported(self, viewer: Viewer, hostname: str) -> Host | None:
        if not viewer.egress:
            return self.seen_from(viewer.namespace, hostname)
        imported = (viewer.imports(host) for host in self.definitions(hostname))
        return choose((host for host in imported if host is not None), viewer.namespace)

    def _stands_for(self, viewer: Viewer, alias: Service) -> Service | None:
        """What an alias means in the end; None for what is none, or means nothing that is seen."""
        if alias.resolution is not Resolution.ALIAS:
            return None
        host = self._imported(viewer, self._aliases.end(alias.key.hostname))
        return host.service if host else None

    def _destination(self, viewer: Viewer, hostname: str) -> Destination | None:
        """What a route to a host leads to: to an alias, the host for which that stands."""
        end = self._aliases.end(hostname)
        host = self._imported(viewer, end) or self.seen_from(viewer.namespace, end)
        return Destination(hostname, host.service, self.policies.rule(viewer, host.service)) if host else None

    def workload(self, key: WorkloadKey) -> Workload | None:
        return self._workloads.get(key)

    def targets(self, namespace: str, labels: Labels, address: str, workload: Workload | None) -> tuple[Target, ...]:
        """The TCP ports on which a workload is reached, of the services that select it and the entries that list its
        address.

        Where two services mean the same port, the oldest says how it speaks (as Istio does).
        """
        found: list[Target] = []
        for key in self._selecting.matching(namespace, labels):
            service = self._hosts[key].service
            for port in service.ports:
                number = reached_at(service, port, workload)
                if number is not None and not port.key.udp:
                    found.append(Target(number, port, service))
        for key in self._listing[address]:
            host = self._hosts[key]
            known = {port.key: port for port in host.service.ports if not port.key.udp}
            for port_key, endpoints in host.endpoints:
                at = {e.port for e in endpoints if e.address == address and port_key in known}
                found.extend(Target(target, known[port_key], host.service) for target in at)
        found.sort(key=lambda target: (target.number, target.service.age, target.port.number))
        return tuple({target.number: target for target in reversed(found)}.values())[::-1]

    def target_ports(self, namespace: str, labels: Labels, workload: Workload | None) -> dict[int, int]:
        """On which of its own ports a workload is reached by the TCP ports of the services that select it.

        Where two services have a port of one number, the oldest says where it leads.
        """
        services = [self._hosts[key].service for key in self._selecting.matching(namespace, labels)]
        found: dict[int, int] = {}
        for service in sorted(services, key=lambda service: service.age):
            for port in service.ports:
                number = reached_at(service, port, workload)
                if number is not None and not port.key.udp:
                    found.setdefault(port.number, number)
        return found

    def secret(self, key: SecretKey) -> core.Secret | core.ConfigMap | None:
        """A Secret or ConfigMap, of those that were applied."""
        return self._secrets.get(key)

    # Changing

    def apply(self, changes: Iterable[Change]) -> Touched:
        """Take in changed objects; kinds that define nothing of the model are ignored."""
        dirty: set[HostKey] = set()
        patterns: set[str] = set()
        gateways: set[str] = set()
        sidecars = envoy_filters = False
        secrets: set[SecretKey] = set()
        workloads: dict[WorkloadKey, Workload | None] = {}
        for old, new in changes:
            match new if new is not None else old:
                case core.Service() as obj:
                    declared = translate.service(obj, self.cluster_domain) if new is not None else ()
                    dirty |= self._declare(ObjectKey("Service", obj.namespace, obj.name), declared)
                case networking.ServiceEntry() as obj:
                    declared = translate.service_entry(obj) if new is not None else ()
                    dirty |= self._declare(ObjectKey("ServiceEntry", obj.namespace, obj.name), declared)
                case discovery.EndpointSlice() as obj:
                    record = translate.endpoint_slice(obj) if new is not None else None
                    dirty |= self._slice(ObjectKey("EndpointSlice", obj.namespace, obj.name), record)
                case Pod() as obj:
                    key = WorkloadKey(obj.namespace, obj.name)
                    work = translate.pod(obj) if new is not None else None
                    dirty |= self._work(key, work, workloads)
                case networking.WorkloadEntry() as obj:
                    key = WorkloadKey(obj.namespace, obj.name, WorkloadKind.ENTRY)
                    work = translate.workload_entry(obj) if new is not None else None
                    dirty |= self._work(key, work, workloads)
                case networking.Gateway():
                    gateways |= self.gateways.apply(old, new)
                case networking.Sidecar():
                    ending = self.sidecars.ending_tls
                    if self.sidecars.apply(old, new):
                        sidecars = True
                        ending |= self.sidecars.ending_tls
                        dirty.update(key for key in self._hosts if self.sidecars.reaches(ending, key.namespace))
                case networking.EnvoyFilter():
                    envoy_filters |= self.envoy_filters.apply(old, new)
                case core.Secret() as obj:
                    secrets |= self._keep(SecretKey(obj.namespace, obj.name), obj if new is not None else None)
                case core.ConfigMap() as obj:
                    key_of_map = SecretKey(obj.namespace, obj.name, "ConfigMap")
                    secrets |= self._keep(key_of_map, obj if new is not None else None)
                case _:
                    patterns |= self.policies.apply(old, new)
        hosts = self._reassemble(dirty)
        return Touched(
            hosts=hosts,
            names=self._names(hosts, patterns),
            policies=frozenset(patterns),
            gateways=frozenset(gateways),
            secrets=frozenset(secrets),
            sidecars=sidecars,
            envoy_filters=envoy_filters,
            workloads={
                k: (was, self._workloads.get(k)) for k, was in workloads.items() if was != self._workloads.get(k)
            },
        )

    def export_by_default(self, exports: Exports) -> Touched:
        """Change who sees what does not say it."""
        self._exports = exports
        patterns = self.policies.export_by_default(exports)
        hosts = self._reassemble(set(self._hosts))
        return Touched(hosts=hosts, names=self._names(hosts, patterns), policies=patterns)

    def rule_from(self, namespace: str) -> Touched:
        """Have another namespace be the one whose policies are for all (Istio: rootNamespace)."""
        if namespace == self.root_namespace:
            return Touched()
        self.root_namespace = namespace
        for ruled in (self.policies, self.sidecars, self.envoy_filters):
            ruled.root_namespace = namespace
        return Touched(names=frozenset(self.host_names()), sidecars=True, envoy_filters=True)

    def _names(
        self, hosts: Mapping[HostKey, tuple[Host | None, Host | None]], about: Collection[str]
    ) -> frozenset[str]:
        """The host names to look at again after these hosts changed, and policies about these names and wildcards."""
        redefined = {
            key.hostname
            for key, (was, now) in hosts.items()
            if was is None or now is None or was.service != now.service
        }
        named = {*about, *_below(self.host_names, about)}
        called = {alias for name in redefined | named for alias in (name, *self._aliases.of(name))}
        leading = (routing for name in called for routing in self.policies.routed_to(name))
        led = {host for routing in leading for host in routing.hosts}
        led.update(_below(lambda: self._namespaces_of, led))
        return frozenset({key.hostname for key in hosts} | named | called | led)

    def _keep(self, key: SecretKey, secret: core.Secret | core.ConfigMap | None) -> set[SecretKey]:
        before = self._secrets.pop(key, None)
        if secret is not None:
            self._secrets[key] = secret
        same = before is not None and secret is not None and before.data == secret.data
        return set() if same or before is secret else {key}

    def _declare(self, source: ObjectKey, declared: tuple[Declaration, ...]) -> set[HostKey]:
        before = self._declared_by.pop(source, ())
        if declared:
            self._declared_by[source] = declared
        if before == declared:
            return set()
        for declaration in before:
            key = declaration.service.key
            del self._declarations[key][source]
            if not self._declarations[key]:
                del self._declarations[key]
            self._workload_selecting.discard((source, key))
            for endpoint in declaration.endpoints:
                self._inline.remove(endpoint.address, (source, key))
        for declaration in declared:
            key = declaration.service.key
            self._declarations.setdefault(key, {})[source] = declaration
            self._workload_selecting.put((source, key), key.namespace, declaration.workload_selector)
            for endpoint in declaration.endpoints:
                self._inline.add(endpoint.address, (source, key))
        touched = {d.service.key for d in (*before, *declared)}
        named = {key.hostname: "" for key in touched} | {
            d.service.key.hostname: d.service.canonical.lower() for d in declared
        }
        if source.kind == "Service":
            renamed = {name for alias, canonical in named.items() for name in self._aliases.put(alias, canonical)}
            touched.update(HostKey(namespace, name) for name in renamed for namespace in self._namespaces_of[name])
        return touched

    def _slice(self, source: ObjectKey, record: Slice | None) -> set[HostKey]:
        before = self._slices.pop(source, None)
        if record is not None:
            self._slices[source] = record
        if before == record:
            return set()
        touched = set()
        if before is not None:
            touched.add(self._host_of(before))
            self._slices_of.remove(self._host_of(before), source)
            for address in before.addresses:
                if address.pod:
                    self._slices_with.remove(address.pod, source)
        if record is not None:
            touched.add(self._host_of(record))
            self._slices_of.add(self._host_of(record), source)
            for address in record.addresses:
                if address.pod:
                    self._slices_with.add(address.pod, source)
        return touched

    def _host_of(self, record: Slice) -> HostKey:
        return HostKey(record.namespace, f"{record.service}.{record.namespace}.svc.{self.cluster_domain}".lower())

    def _work(
        self, key: WorkloadKey, record: Workload | None, changed: dict[WorkloadKey, Workload | None]
    ) -> set[HostKey]:
        """The hosts that a workload's change touches; `changed` gets what it was before."""
        before = self._workloads.pop(key, None)
        if record is not None:
            self._workloads[key] = record
        if before == record:
            return set()
        changed.setdefault(key, before)
        if record is None:
            self._labelled[key.kind].discard(key)
        else:
            self._labelled[key.kind].put(key, record.namespace, record.labels)
        touched = {self._host_of(self._slices[source]) for source in self._slices_with[key]}
        if key.kind is WorkloadKind.POD:
            touched |= self._house(before, record)
        for state in filter(None, (before, record)):
            for source, host in self._workload_selecting.matching(state.namespace, state.labels):
                if key.kind in _selectable(self._declarations[host][source]):
                    touched.add(host)
        return touched

    def _house(self, before: Workload | None, after: Workload | None) -> set[HostKey]:
        """A pod comes to an address, or leaves one; gives the hosts of entries that have it written down."""
        if before is not None:
            self._pods_at.remove(before.address, before.key)
        if after is not None:
            self._pods_at.add(after.address, after.key)
        return {host for state in (before, after) if state is not None for _, host in self._inline[state.address]}

    def _called(self, address: str) -> Labels:
        """What the pod at an address is called in metrics; nothing where there is none."""
        keys = self._pods_at[address]
        return self._workloads[min(keys)].peer if keys else ()

    def _takes_mutual_tls(self, workload: Workload, port: int) -> bool:
        return workload.mutual_tls and not self.sidecars.ends_tls(workload.namespace, workload.labels, port)

    def _reassemble(self, dirty: set[HostKey]) -> dict[HostKey, tuple[Host | None, Host | None]]:
        touched: dict[HostKey, tuple[Host | None, Host | None]] = {}
        for key in sorted(dirty):
            before = self._hosts.get(key)
            after = self._assemble(key)
            if before == after:
                continue
            touched[key] = (before, after)
            for reach in _reach(before):
                self._exported.remove(reach, key)
            for reach in _reach(after):
                self._exported.add(reach, key)
            self._close += (after is not None and after.service.close) - (before is not None and before.service.close)
            if before is not None:
                self._unlist(before)
            if after is None:
                del self._hosts[key]
                self._namespaces_of.remove(key.hostname, key.namespace)
                self._selecting.discard(key)
            else:
                self._hosts[key] = after
                self._namespaces_of.add(key.hostname, key.namespace)
                self._selecting.put(key, key.namespace, after.service.selector)
                self._list(after)
        return touched

    def _assemble(self, key: HostKey) -> Host | None:
        declarations = self._declarations.get(key)
        if not declarations:
            return None
        slices = [self._slices[source] for source in sorted(self._slices_of[key])]
        return assemble(
            [(declaration, self._selected(declaration)) for declaration in declarations.values()],
            slices,
            self._workloads,
            self._called,
            self._takes_mutual_tls,
            self._exports.services,
            self._aliases.of(key.hostname),
        )

    def _selected(self, declaration: Declaration) -> list[Workload]:
        namespace, selector = declaration.service.namespace, declaration.workload_selector
        return [
            self._workloads[key]
            for kind in _selectable(declaration)
            for key in sorted(self._labelled[kind].select(namespace, selector))
        ]

    def _list(self, host: Host) -> None:
        for address in _listed(host):
            self._listing.add(address, host.key)

    def _unlist(self, host: Host) -> None:
        for address in _listed(host):
            self._listing.remove(address, host.key)


def _selectable(declaration: Declaration) -> tuple[WorkloadKind, ...]:
    """A Kubernetes service knows its pods from its EndpointSlices."""
    kubernetes = declaration.service.registry is Registry.KUBERNETES
    return (WorkloadKind.ENTRY,) if kubernetes else (WorkloadKind.POD, WorkloadKind.ENTRY)


def _listed(host: Host) -> set[str]:
    """The addresses that make a workload a target of this host; a service with a selector finds its own by labels."""
    if host.service.selector:
        return set()
    return {endpoint.address for _, endpoints in host.endpoints for endpoint in endpoints}


def _reach(host: Host | None) -> Iterable[str]:
    """The namespaces that see a host; "*" for all."""
    service = host.service if host else None
    return (service.namespace if reach == "." else reach for reach in service.export_to) if service else ()


def _below(names: Callable[[], Iterable[str]], about: Iterable[str]) -> Iterator[str]:
    """Those of the names that the wildcards among others match. All names are looked at only where there is one."""
    wildcards = [pattern for pattern in about if pattern.startswith("*")]
    return (name for name in (names() if wildcards else ()) if any(matches(name, pattern) for pattern in wildcards))
