"""The configuration of a node's gateway: a listener for each node port, and the services behind them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pilotfish.mesh.model import Model
from pilotfish.mesh.records import Host, HostKey
from pilotfish.xds.build.node_gateway import NodePortSpec
from pilotfish.xds.entries import Spec
from pilotfish.xds.parts import NO_AGE, ContestedPart
from pilotfish.xds.settings import ProxySettings
from pilotfish.xds.upstreams import assignment, cluster_name, static_cluster


class NodePorts(ContestedPart):
    """What every node's gateway has; who sees a service plays no part in it."""

    def __init__(self, settings: ProxySettings, model: Model) -> None:
        super().__init__()
        self._settings = settings
        self._model = model
        self.update([host.key for host in model.hosts()])
        self.take_changes()

    def anew(self, model: Model) -> NodePorts:
        return NodePorts(self._settings, model)

    def update(self, keys: Iterable[HostKey]) -> None:
        """Look again at hosts."""
        for key in keys:
            host = self._model.host(key)
            self.claim(key, host.service.age if host else NO_AGE, self._specs(host) if host else ())

    def _specs(self, host: Host) -> Iterator[Spec]:
        service = host.service
        for port in service.ports:
            if port.node_port:
                yield NodePortSpec(port.node_port, cluster_name(service, port), port.key.udp)
                yield static_cluster(service, port, self._settings)
                yield assignment(host, port)
