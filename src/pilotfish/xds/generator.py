"""The configuration of every connected proxy, kept up as the mesh changes.

A proxy's configuration is put together from parts: a sidecar's from its namespace's scope and its own inbound part. A
change of the mesh goes to the parts that it touches, once, however many proxies share them; then each proxy that has
such a part is told the names of what changed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec

from pilotfish.api.demand import on_demand
from pilotfish.api.protos import NAME_TABLE_TYPE
from pilotfish.mesh.envoy_filters import Patch
from pilotfish.mesh.index import MultiMap
from pilotfish.mesh.meshconfig import ROOT_NAMESPACE
from pilotfish.mesh.model import Change, Model, Touched
from pilotfish.mesh.policies import BY_DEFAULT, Exports
from pilotfish.mesh.records import WorkloadKey, labels_of
from pilotfish.mesh.telemetry import Reports
from pilotfish.xds.additions import Additions
from pilotfish.xds.audience import Audience, scoped
from pilotfish.xds.audit import Audit
from pilotfish.xds.common import Common
from pilotfish.xds.demand import Clock, Demands, User, kept_hosts
from pilotfish.xds.edge import edge_of
from pilotfish.xds.entries import Resources
from pilotfish.xds.gateway import Gateway, GatewayGroup
from pilotfish.xds.gateways import Gateways
from pilotfish.xds.grants import Grants, GrantSpec
from pilotfish.xds.idle import idle_time, report_interval, terms
from pilotfish.xds.name_tables import NameTables
from pilotfish.xds.node_ports import NodePorts
from pilotfish.xds.parts import Part, differences, merged, specs_of
from pilotfish.xds.proxyless import Proxyless
from pilotfish.xds.reporting import WorkloadReports, own_collectors
from pilotfish.xds.scope import Scope
from pilotfish.xds.selection import Selection
from pilotfish.xds.settings import ProxySettings, of_proxy
from pilotfish.xds.siblings import Siblings, discovers_itself
from pilotfish.xds.source import CLUSTER, Changes, Held, ProxyNode, Resource
from pilotfish.xds.workload import Inbound, InboundIndex, behind, workload_of

NO_PATCHES: tuple[Patch, ...] = ()
GATEWAY_LABEL = "pilotfish.dev/gateway"
SYSTEM_NAMESPACE = "kube-system"
AUDIT = "PILOTFISH_AUDIT"
"""Environment variable: with "1" every change is checked against a configuration made from nothing; slow, for tests."""


class Proxy:
    """One connected proxy (a `ProxyConfig` of `xds.source`)."""

    def __init__(self, node: ProxyNode, tell: Callable[[Changes], None], generator: Generator) -> None:
        self.node = node
        self.tell = tell
        self.parts: tuple[Part, ...] = ()
        self.shared: Audience | GatewayGroup | None = None
        """What it has in common with others, for a proxy that calls hosts of the mesh."""
        self.user: User | None = None
        """A sidecar on demand."""
        self.grants = Grants()
        """What a DNS process was granted of what it asked for."""
        self._generator = generator

    def resources(self, type_url: str) -> Mapping[str, Resource]:
        return Resources(*(part.entries(type_url) for part in self.parts))

    def asked(
        self, type_url: str, subscribed: Collection[str], unsubscribed: Collection[str], kept: Collection[str]
    ) -> None:
        if type_url == NAME_TABLE_TYPE:
            self._generator.demanded(self, subscribed, unsubscribed, kept)
        elif self.user is not None:
            if kept:
                self._generator.resumed(self.user, type_url, kept)
            if type_url == CLUSTER:
                self._generator.reached(self.user, subscribed, kept)

    def answered(self, held: Held) -> None:
        if self.user is not None:
            self._generator.demands.answered(self.user, held)

    def grant(self, resource: str) -> None:
        self.grants.put(GrantSpec(resource))
        self._tell_grants()

    def revoke(self, resource: str) -> None:
        self.grants.drop(NAME_TABLE_TYPE, resource)
        self._tell_grants()

    def _tell_grants(self) -> None:
        if changes := self.grants.take_changes():
            self.tell(changes)

    def close(self) -> None:
        self._generator.disconnect(self)


class Generator:
    """The `ConfigSource` of a mesh. Changes come in through `apply`; all of it runs on one event loop."""

    def __init__(
        self,
        model: Model,
        settings: ProxySettings | None = None,
        *,
        audit: bool | None = None,
        clock: Clock = time.monotonic,
        date: Clock = time.time,
    ) -> None:
        """`audit` overrides what the environment says (see AUDIT). Hosts are idle by `clock`, and days begin by `date`;
        both in seconds.
        """
        self.model = model
        self.settings = settings or ProxySettings(cluster_domain=model.cluster_domain)
        self._proxies: MultiMap[Part, Proxy] = MultiMap()
        self.demands = Demands(model, clock, date)
        self._scopes: dict[Audience, Scope] = {}
        self._commons: dict[Audience, Common] = {}
        self._proxyless: dict[Audience, Proxyless] = {}
        self._name_tables: dict[bool, NameTables] = {}
        self._node_ports: NodePorts | None = None
        self.gateways = Gateways(model)
        self._inbound = InboundIndex()
        self._siblings: set[Siblings] = set()
        self._at: MultiMap[WorkloadKey, Proxy] = MultiMap()
        self._distinctions: tuple[frozenset[str], bool] = (frozenset(), False)
        self._reports = WorkloadReports(model)
        checked = os.environ.get(AUDIT) == "1" if audit is None else audit
        self._audit = Audit() if checked else None

    def connect(self, node: ProxyNode, on_change: Callable[[Changes], None]) -> Proxy:
        """The configuration of a node, by its type; one of a type that we do not know gets none."""
        proxy = Proxy(node, on_change, self)
        if _on_demand(node):
            proxy.user = self.demands.enter(node.ip, idle_time(node))
        elif node.type == "sidecar":
            self.demands.enter_eager(node.ip)
        self._enter(proxy)
        self._look()
        return proxy

    def disconnect(self, proxy: Proxy) -> None:
        """A proxy is gone."""
        self._leave(proxy)
        self._look()
        self.demands.forget(proxy)
        if proxy.user is not None:
            self.demands.leave(proxy.user)
        elif proxy.node.type == "sidecar":
            self.demands.leave_eager(proxy.node.ip)

    def demanded(
        self, dns: Proxy, subscribed: Collection[str], unsubscribed: Collection[str], kept: Collection[str]
    ) -> None:
        """A DNS process tells of lookups, and of workloads that are gone."""
        self.demands.withdraw(dns, unsubscribed)
        self._settle(self.demands.ask(dns, subscribed, kept))

    def resumed(self, user: User, type_url: str, kept: Collection[str]) -> None:
        """A sidecar comes back with what it had before: that stays, whoever asked for it."""
        if user.selection is None:
            return
        if self.demands.resumed(user, kept_hosts(user.selection, type_url, kept)):
            self._settle([user])

    def reached(self, user: User, clusters: Collection[str], kept: Collection[str]) -> None:
        """A sidecar asks for clusters that are named by addresses that its workload did not look up."""
        if self.demands.reach(user, clusters, kept):
            self._settle([user])

    def report_interval(self, node: ProxyNode) -> float:
        """How many seconds pass between reports of what a proxy uses; 0: nobody is to report it."""
        return report_interval(idle_time(node)) if _on_demand(node) else 0.0

    def used(self, node: ProxyNode, clusters: Collection[str]) -> None:
        """A sidecar has used these clusters (by their names in statistics) since the last report, and no others."""
        self._settle(self.demands.report(node.ip, clusters))

    def _settle(self, users: Collection[User]) -> None:
        """Tell sidecars what they got new; what is new to none of them need not be waited for."""
        self._tell(user.selection for user in users if user.selection is not None)
        for user in users:
            self.demands.settle(user)

    def apply(self, changes: Iterable[Change]) -> None:
        """Take changed objects into the model, and tell the proxies whose configuration that changes."""
        changes = list(changes)
        reported = self._reports.apply(changes)
        touched = self.model.apply(changes)
        reported = self._reports.touched(touched) or reported
        self._update(touched)
        if reported:
            self._tell_apart(self._all())
        if self._audit is not None:
            self._audit.check(self.model, changes, self._proxies)
            assert all(proxy.shared == self._shared(proxy.node) for proxy in self._all()), "a proxy is in a wrong group"

    def reconfigure(
        self,
        settings: ProxySettings,
        exports: Exports = BY_DEFAULT,
        reports: Reports | None = None,
        root_namespace: str = ROOT_NAMESPACE,
    ) -> None:
        """Change what shapes all proxies, who sees what does not say it, what workloads report, and where policies are
        for all.

        The parts that this touches are made anew; each proxy is told what came out different.
        """
        self._update(self.model.export_by_default(exports))
        self._update(self.model.rule_from(root_namespace))
        self._reports.configure(reports)
        if settings != self.settings:
            self.settings = settings
            self._regroup(self._all())
            self._look()
        else:
            self._tell_apart(self._all())

    def _all(self) -> list[Proxy]:
        return list(dict.fromkeys(proxy for part in self._proxies for proxy in self._proxies[part]))

    def _regroup(self, proxies: Collection[Proxy]) -> None:
        """Put proxies' configurations together from other parts; each is told what came out different."""
        before = {proxy: specs_of(proxy.parts) for proxy in proxies}
        for proxy in proxies:
            self._leave(proxy)
        for proxy in proxies:
            self._enter(proxy)
        for proxy in proxies:
            if changes := differences(before[proxy], specs_of(proxy.parts)):
                proxy.tell(changes)

    def _update(self, touched: Touched) -> None:
        if not touched:
            return
        names = touched.names
        updated: list[Part] = []
        for scope in self._scopes.values():
            scope.update(names, touched.secrets)
            updated.append(scope)
        users: list[User] = []
        for common in self._commons.values():
            selections = common.update(names, touched.secrets)
            updated += [common, *selections]
            users += (p.user for s in selections for p in self._proxies[s] if p.user is not None and p.user.waiting)
        for proxyless in self._proxyless.values():
            proxyless.update(names)
            updated.append(proxyless)
        for tables in self._name_tables.values():
            tables.update(names)
            updated.append(tables)
        if self._node_ports is not None:
            self._node_ports.update(touched.hosts)
            updated.append(self._node_ports)
        updated += self.gateways.update(touched)
        updated += self._inbound.update(touched)
        for siblings in self._siblings:
            siblings.update(touched)
            updated.append(siblings)
        self._tell(updated)
        for user in users:
            self.demands.settle(user)
        self.demands.update(touched)
        self._tell_apart(self._told_apart(touched))
        self._look()

    def _look(self) -> None:
        """Tell what of Secrets is needed, and what gateways cannot serve."""
        scopes = (*self._scopes.values(), *(common.scope for common in self._commons.values()))
        self.gateways.look(key for scope in scopes for key in scope.secrets.wanted)

    def _tell_apart(self, proxies: Iterable[Proxy]) -> None:
        """Look again at what proxies have in common with others."""
        self._regroup([proxy for proxy in proxies if proxy.shared != self._shared(proxy.node)])

    def _told_apart(self, touched: Touched) -> list[Proxy]:
        """The proxies that may have something else in common with others than before."""
        distinctions = self._distinguished()
        if distinctions != self._distinctions or touched.sidecars or touched.envoy_filters:
            self._distinctions = distinctions
            return [proxy for proxy in self._all() if proxy.shared is not None]
        return [proxy for key in touched.workloads for proxy in self._at[key]]

    def _distinguished(self) -> tuple[frozenset[str], bool]:
        """By what proxies are told apart: the labels, and whether where they are matters."""
        policies, settings = self.model.policies, self.settings
        label_keys = settings.locality.label_keys if settings.locality else frozenset()
        ejects = settings.default_policy.outlier_detection is not None
        by_place = self.model.by_place or ejects or (settings.locality is not None and settings.locality.always)
        return policies.label_keys | label_keys, by_place

    def _shared(self, node: ProxyNode) -> Audience | GatewayGroup | None:
        """What of a proxy shapes what it knows of the mesh."""
        if node.type not in ("sidecar", "grpc", "router") or _serves_node_ports(node):
            return None
        workload = self.model.workload(workload_of(node))
        labels = workload.labels if workload else labels_of(node.labels)
        label_keys, by_place = self._distinguished()
        told_by = tuple((name, value) for name, value in labels if name in label_keys)
        locality = workload.locality if workload and by_place else ""
        settings, patches = self.settings, NO_PATCHES
        if node.type != "grpc":
            settings = self._reports.shaping(settings, node.namespace, labels, own_collectors(settings, node))
            settings = of_proxy(settings, node)
            patches = self.model.envoy_filters.of(node.namespace, labels, node.metadata)
        # Labels are what the workload has, and not what the proxy says, where they decide which Secrets it gets.
        ours = workload is not None and node.service_account in ("", workload.service_account)
        audience = Audience(
            node.namespace,
            ":" in node.ip,
            settings,
            told_by,
            locality=locality,
            patches=patches,
            gateway=node.type == "router",
            vouched=ours,
        )
        if node.type != "router":
            if (sidecar := self.model.sidecars.of(node.namespace, labels)) is not None:
                settings = scoped(settings, sidecar)
                audience = msgspec.structs.replace(audience, settings=settings, egress=sidecar.egress)
            # Where an unknown destination is refused, so would be a host of the mesh that is reached without a lookup.
            if not (_on_demand(node) and settings.on_demand):
                return audience
            ranges = tuple(filter(audience.reaches, settings.mesh_ranges))
            return msgspec.structs.replace(audience, on_demand=terms(idle_time(node), ranges, settings.http))
        pod = workload if workload is not None and ours else None
        return GatewayGroup(audience, pod.labels if pod else (), pod.ports if pod else (), edge_of(node))

    def _tell(self, updated: Iterable[Part]) -> None:
        """Each proxy hears once; proxies that share all that changed hear the same object."""
        told: dict[Proxy, Changes] = {}
        for part in updated:
            changes = part.take_changes()
            if not changes:
                continue
            for proxy in self._proxies[part]:
                told[proxy] = merged(told[proxy], changes) if proxy in told else changes
        for proxy, changes in told.items():
            proxy.tell(changes)

    # Who has which parts

    def _enter(self, proxy: Proxy) -> None:
        proxy.shared = self._shared(proxy.node)
        if proxy.shared is not None:
            self._at.add(workload_of(proxy.node), proxy)
        proxy.parts = self._parts(proxy)
        for part in proxy.parts:
            self._proxies.add(part, proxy)

    def _parts(self, proxy: Proxy) -> tuple[Part, ...]:
        node = proxy.node
        ipv6 = ":" in node.ip
        shared = proxy.shared
        if isinstance(shared, GatewayGroup):
            return self.gateways.part(shared), *self._additions(shared.audience, gateway=True)
        if node.type == "sidecar" and shared is not None:
            labels = labels_of(node.labels)
            inbound = Inbound(workload_of(node), node.ip, labels, shared, self.model, behind(node))
            self._inbound.put(inbound)
            alike = [Siblings(workload_of(node), node.ip, labels, self.model)] if discovers_itself(node) else []
            self._siblings.update(alike)
            return *self._outbound(shared, proxy.user), inbound, *alike, *self._additions(shared, gateway=False)
        if node.type == "grpc" and shared is not None:
            if shared not in self._proxyless:
                self._proxyless[shared] = Proxyless(shared, self.model)
            return (self._proxyless[shared],)
        if _serves_node_ports(node):
            if self._node_ports is None:
                self._node_ports = NodePorts(self.settings, self.model)
            return (self._node_ports,)
        if node.type == "dns":
            if ipv6 not in self._name_tables:
                self._name_tables[ipv6] = NameTables(self.model, ipv6=ipv6)
            return self._name_tables[ipv6], proxy.grants
        return ()

    def _additions(self, audience: Audience, *, gateway: bool) -> tuple[Part, ...]:
        patches = audience.patches
        return (Additions(patches, gateway=gateway),) if patches else ()

    def _outbound(self, audience: Audience, user: User | None) -> tuple[Part, ...]:
        if user is not None:
            self.demands.keep(user)
        if user is None or audience.on_demand is None:
            if user is not None:
                user.selection = None
            if audience not in self._scopes:
                self._scopes[audience] = Scope(audience, self.model)
            return (self._scopes[audience],)
        if audience not in self._commons:
            self._commons[audience] = Common(audience, self.model)
        common = self._commons[audience]
        user.selection = Selection(common, user.hostnames, user.reached)
        return user.selection, common

    def _leave(self, proxy: Proxy) -> None:
        """What no proxy has any more is forgotten."""
        self._at.remove(workload_of(proxy.node), proxy)
        proxy.shared = None
        for part in proxy.parts:
            self._proxies.remove(part, proxy)
            if self._proxies.count(part):
                continue
            match part:
                case Scope():
                    del self._scopes[part.audience]
                case Common():
                    del self._commons[part.audience]
                case Selection():
                    part.close()
                case Proxyless():
                    del self._proxyless[part.audience]
                case NameTables():
                    del self._name_tables[part.ipv6]
                case NodePorts():
                    self._node_ports = None
                case Inbound():
                    self._inbound.discard(part)
                case Gateway():
                    self.gateways.discard(part)
                case Siblings():
                    self._siblings.discard(part)
        proxy.parts = ()


def _on_demand(node: ProxyNode) -> bool:
    return node.type == "sidecar" and on_demand(node.metadata)


def _serves_node_ports(node: ProxyNode) -> bool:
    """Whether it is a node's own gateway: where certificates are asked for, a pod of the system's namespace."""
    ours = not node.service_account or node.namespace == SYSTEM_NAMESPACE
    return node.type == "router" and node.labels.get(GATEWAY_LABEL) == "node" and ours
