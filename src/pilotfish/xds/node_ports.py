"""The configuration of a node's gateway: a listener for each node port, and the services behind them."""

from __future__ import annotations

from collections.abc import Iterable

from pilotfish.mesh.model import Model
from pilotfish.mesh.protocols import Protocol
from pilotfish.mesh.records import Host, HostKey
from pilotfish.xds.build import names
from pilotfish.xds.build.node_gateway import NodePortSpec
from pilotfish.xds.entries import Spec
from pilotfish.xds.outbound import assignment, static_cluster
from pilotfish.xds.parts import Part
from pilotfish.xds.settings import ProxySettings


class NodePorts(Part):
    """What every node's gateway has; who sees a service plays no part in it."""

    def __init__(self, settings: ProxySettings, model: Model) -> None:
        super().__init__()
        self._settings = settings
        self._model = model
        self._hosts: dict[HostKey, Host] = {}
        self.update([host.key for host in model.hosts()])
        self.take_changes()

    def anew(self, model: Model) -> NodePorts:
        return NodePorts(self._settings, model)

    def update(self, keys: Iterable[HostKey]) -> None:
        """Look again at hosts."""
        for key in keys:
            before, after = self._hosts.pop(key, None), self._model.host(key)
            if after is not None and any(port.node_port for port in after.service.ports):
                self._hosts[key] = after
            else:
                after = None
            self.replace(self._specs(before), self._specs(after))

    def _specs(self, host: Host | None) -> tuple[Spec, ...]:
        found: list[Spec] = []
        for port in host.service.ports if host else ():
            if host and port.node_port:
                cluster = names.outbound(port.number, host.service.hostname)
                found += [
                    NodePortSpec(port.node_port, cluster, port.protocol is Protocol.UDP),
                    static_cluster(host.service, port, self._settings),
                    assignment(host, port),
                ]
        return tuple(found)
