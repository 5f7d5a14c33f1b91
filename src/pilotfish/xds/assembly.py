"""The parts that proxies' configurations are put together from, each there as long as any proxy has it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from pilotfish.mesh.model import Model, Touched
from pilotfish.mesh.records import SecretKey, labels_of
from pilotfish.xds.additions import Additions
from pilotfish.xds.audience import Audience
from pilotfish.xds.common import Common
from pilotfish.xds.demand import Demands, User
from pilotfish.xds.gateway import Gateway, GatewayGroup
from pilotfish.xds.gateways import Gateways
from pilotfish.xds.grants import Grants
from pilotfish.xds.groups import Shared, serves_node_ports
from pilotfish.xds.name_tables import NameTables
from pilotfish.xds.node_ports import NodePorts
from pilotfish.xds.parts import Part
from pilotfish.xds.proxyless import Proxyless
from pilotfish.xds.scope import Scope
from pilotfish.xds.selection import Selection
from pilotfish.xds.settings import ProxySettings
from pilotfish.xds.siblings import Siblings, discovers_itself
from pilotfish.xds.source import ProxyNode
from pilotfish.xds.workload import Inbound, InboundIndex, behind, workload_of


class Updated(NamedTuple):
    """Parts that were looked at, and which of them show a sidecar on demand what it asked for."""

    parts: list[Part]
    selections: list[Selection]


class Assembly:
    """All parts of a mesh, by what they are for."""

    def __init__(self, model: Model, demands: Demands) -> None:
        self._model = model
        self._demands = demands
        self._scopes: dict[Audience, Scope] = {}
        self._commons: dict[Audience, Common] = {}
        self._proxyless: dict[Audience, Proxyless] = {}
        self._name_tables: dict[bool, NameTables] = {}
        self._node_ports: NodePorts | None = None
        self.gateways = Gateways(model)
        self._inbound = InboundIndex()
        self._siblings: set[Siblings] = set()

    @property
    def empty(self) -> bool:
        """Whether nobody has a part that several could share."""
        shared = (self._scopes, self._commons, self._proxyless, self._name_tables, self._node_ports, self._siblings)
        return not any(shared) and not list(self.gateways)

    def parts_of(
        self, node: ProxyNode, shared: Shared | None, user: User | None, grants: Grants, settings: ProxySettings
    ) -> tuple[Part, ...]:
        """The parts of a proxy: those that others have already, and new ones. One of an unknown type has none."""
        if isinstance(shared, GatewayGroup):
            return self.gateways.part(shared), *_additions(shared.audience, gateway=True)
        if node.type == "sidecar" and shared is not None:
            labels = labels_of(node.labels)
            inbound = Inbound(workload_of(node), node.ip, labels, shared, self._model, behind(node))
            self._inbound.put(inbound)
            alike = [Siblings(workload_of(node), node.ip, labels, self._model)] if discovers_itself(node) else []
            self._siblings.update(alike)
            return *self._outbound(shared, user), inbound, *alike, *_additions(shared, gateway=False)
        if node.type == "grpc" and shared is not None:
            if shared not in self._proxyless:
                self._proxyless[shared] = Proxyless(shared, self._model)
            return (self._proxyless[shared],)
        if serves_node_ports(node):
            if self._node_ports is None:
                self._node_ports = NodePorts(settings, self._model)
            return (self._node_ports,)
        if node.type == "dns":
            ipv6 = ":" in node.ip
            if ipv6 not in self._name_tables:
                self._name_tables[ipv6] = NameTables(self._model, ipv6=ipv6)
            return self._name_tables[ipv6], grants
        return ()

    def _outbound(self, audience: Audience, user: User | None) -> tuple[Part, ...]:
        if user is not None:
            self._demands.keep(user)
        if user is None or audience.on_demand is None:
            if user is not None:
                user.selection = None
            if audience not in self._scopes:
                self._scopes[audience] = Scope(audience, self._model)
            return (self._scopes[audience],)
        if audience not in self._commons:
            self._commons[audience] = Common(audience, self._model)
        common = self._commons[audience]
        user.selection = Selection(common, user.hostnames, user.reached)
        return user.selection, common

    def forget(self, part: Part) -> None:
        """No proxy has a part any more."""
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

    def update(self, touched: Touched) -> Updated:
        """Have the parts look again at what a change of the mesh touched."""
        names = touched.names
        updated: list[Part] = []
        selections: list[Selection] = []
        for scope in self._scopes.values():
            scope.update(names, touched.secrets)
            updated.append(scope)
        for common in self._commons.values():
            shown = common.update(names, touched.secrets)
            updated += [common, *shown]
            selections += shown
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
        return Updated(updated, selections)

    def look(self) -> None:
        """Tell what of Secrets is needed, and what gateways cannot serve."""
        self.gateways.look(self._secrets())

    def _secrets(self) -> Iterator[SecretKey]:
        for scope in (*self._scopes.values(), *(common.scope for common in self._commons.values())):
            yield from scope.secrets.wanted


def _additions(audience: Audience, *, gateway: bool) -> tuple[Part, ...]:
    return (Additions(audience.patches, gateway=gateway),) if audience.patches else ()
