"""The configuration of every connected proxy, kept up as the mesh changes.

A proxy's configuration is put together from parts: a sidecar's from its namespace's scope and its own inbound part. A
change of the mesh goes to the parts that it touches, once, however many proxies share them; then each proxy that has
such a part is told the names of what changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping

from pilotfish.mesh.index import MultiMap
from pilotfish.mesh.model import Change, Model, Touched
from pilotfish.mesh.records import WorkloadKey, labels_of
from pilotfish.xds.audit import Audit
from pilotfish.xds.entries import Resources
from pilotfish.xds.name_tables import NameTables
from pilotfish.xds.node_ports import NodePorts
from pilotfish.xds.outbound import Audience
from pilotfish.xds.parts import Part, differences, merged, specs_of
from pilotfish.xds.proxyless import Proxyless
from pilotfish.xds.scope import Scope
from pilotfish.xds.settings import ProxySettings
from pilotfish.xds.source import Changes, ProxyNode, Resource
from pilotfish.xds.workload import Inbound, InboundIndex

GATEWAY_LABEL = "pilotfish.dev/gateway"
AUDIT = "PILOTFISH_AUDIT"
"""Environment variable: with "1" every change is checked against a configuration made from nothing; slow, for tests."""


class Proxy:
    """One connected proxy (a `ProxyConfig` of `xds.source`)."""

    def __init__(self, node: ProxyNode, tell: Callable[[Changes], None], leave: Callable[[Proxy], None]) -> None:
        self.node = node
        self.tell = tell
        self.parts: tuple[Part, ...] = ()
        self._leave = leave

    def resources(self, type_url: str) -> Mapping[str, Resource]:
        return Resources(*(part.entries(type_url) for part in self.parts))

    def close(self) -> None:
        self._leave(self)


class Generator:
    """The `ConfigSource` of a mesh. Changes come in through `apply`; all of it runs on one event loop."""

    def __init__(self, model: Model, settings: ProxySettings | None = None, *, audit: bool | None = None) -> None:
        """`audit` overrides what the environment says (see AUDIT)."""
        self.model = model
        self.settings = settings or ProxySettings(cluster_domain=model.cluster_domain)
        self._proxies: MultiMap[Part, Proxy] = MultiMap()
        self._scopes: dict[Audience, Scope] = {}
        self._proxyless: dict[Audience, Proxyless] = {}
        self._name_tables: dict[bool, NameTables] = {}
        self._node_ports: NodePorts | None = None
        self._inbound = InboundIndex()
        checked = os.environ.get(AUDIT) == "1" if audit is None else audit
        self._audit = Audit() if checked else None

    def connect(self, node: ProxyNode, on_change: Callable[[Changes], None]) -> Proxy:
        """The configuration of a node, by its type; one of a type that we do not know gets none."""
        proxy = Proxy(node, on_change, self._leave)
        self._enter(proxy)
        return proxy

    def apply(self, changes: Iterable[Change]) -> None:
        """Take changed objects into the model, and tell the proxies whose configuration that changes."""
        changes = list(changes)
        self._update(self.model.apply(changes))
        if self._audit is not None:
            self._audit.check(self.model, changes, self._proxies)

    def reconfigure(self, settings: ProxySettings, export_to: tuple[str, ...] = ("*",)) -> None:
        """Change what shapes all proxies, and who sees services that do not say it.

        All parts are made anew; each proxy is told what came out different.
        """
        self._update(self.model.export_by_default(export_to))
        if settings == self.settings:
            return
        self.settings = settings
        proxies = list(dict.fromkeys(proxy for part in self._proxies for proxy in self._proxies[part]))
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
        names = {key.hostname for key in touched.hosts}
        updated: list[Part] = []
        for scope in self._scopes.values():
            scope.update(names)
            updated.append(scope)
        for proxyless in self._proxyless.values():
            proxyless.update(names)
            updated.append(proxyless)
        for tables in self._name_tables.values():
            tables.update(names)
            updated.append(tables)
        if self._node_ports is not None:
            self._node_ports.update(touched.hosts)
            updated.append(self._node_ports)
        for inbound in self._inbound.touched(touched):
            inbound.update()
            updated.append(inbound)
        self._tell(updated)

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
        proxy.parts = self._parts(proxy.node)
        for part in proxy.parts:
            self._proxies.add(part, proxy)

    def _parts(self, node: ProxyNode) -> tuple[Part, ...]:
        ipv6 = ":" in node.ip
        if node.type == "sidecar":
            audience = Audience(node.namespace, ipv6, self.settings)
            if audience not in self._scopes:
                self._scopes[audience] = Scope(audience, self.model)
            key = WorkloadKey(node.namespace, node.name)
            inbound = Inbound(key, node.ip, labels_of(node.labels), audience, self.model)
            self._inbound.put(inbound)
            return self._scopes[audience], inbound
        if node.type == "grpc":
            audience = Audience(node.namespace, ipv6, self.settings)
            if audience not in self._proxyless:
                self._proxyless[audience] = Proxyless(audience, self.model)
            return (self._proxyless[audience],)
        if node.type == "router" and node.labels.get(GATEWAY_LABEL) == "node":
            if self._node_ports is None:
                self._node_ports = NodePorts(self.settings, self.model)
            return (self._node_ports,)
        if node.type == "dns":
            if ipv6 not in self._name_tables:
                self._name_tables[ipv6] = NameTables(self.model, ipv6=ipv6)
            return (self._name_tables[ipv6],)
        return ()

    def _leave(self, proxy: Proxy) -> None:
        """What no proxy has any more is forgotten."""
        for part in proxy.parts:
            self._proxies.remove(part, proxy)
            if self._proxies.count(part):
                continue
            match part:
                case Scope():
                    del self._scopes[part.audience]
                case Proxyless():
                    del self._proxyless[part.audience]
                case NameTables():
                    del self._name_tables[part.ipv6]
                case NodePorts():
                    self._node_ports = None
                case Inbound():
                    self._inbound.discard(part)
        proxy.parts = ()
