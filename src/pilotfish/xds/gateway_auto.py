"""Servers that pass TLS on to the cluster that its server name is (mode AUTO_PASSTHROUGH), as gateways between networks
do (Istio: builtAutoPassthroughFilterChains).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from pilotfish.mesh.hostnames import matches
from pilotfish.mesh.listening import Listening
from pilotfish.mesh.model import Model
from pilotfish.mesh.records import Endpoint
from pilotfish.mesh.servers import Tls
from pilotfish.xds.audience import Audience
from pilotfish.xds.build import names
from pilotfish.xds.build.clusters import ClusterSpec
from pilotfish.xds.build.endpoints import AssignmentSpec
from pilotfish.xds.build.gateway import BytesChain
from pilotfish.xds.build.mutual_tls import MESH_ALPN
from pilotfish.xds.parts import Part
from pilotfish.xds.upstreams import assignments, clusters


class AutoPassthrough:
    """The chains of such servers of a listener, with clusters of their own, which add no TLS to what passes through.

    Nobody reaches a workload through them who does not speak the mesh's mutual TLS, and none that does not take it.
    """

    def __init__(self, listening: Listening, part: Part, audience: Audience, model: Model) -> None:
        servers = (server for server in listening.servers if server.tls is Tls.AUTO_PASSTHROUGH)
        self._hosts = frozenset(name for server in servers for name in server.hostnames)
        self._part = part
        self._audience = audience
        self._model = model
        self._specs: dict[str, tuple[ClusterSpec | AssignmentSpec, ...]] = {}
        self.update(model.host_names() if self._hosts else ())

    @property
    def chains(self) -> tuple[BytesChain, ...]:
        found = (spec for _, specs in sorted(self._specs.items()) for spec in specs if isinstance(spec, ClusterSpec))
        return tuple(BytesChain(((spec.name, 0),), (spec.name,), alpn=MESH_ALPN) for spec in found)

    def update(self, hostnames: Iterable[str]) -> bool:
        """Look again at hosts (in lower case); whether the chains are not what they were."""
        changed = False
        for hostname in hostnames:
            if not any(matches(hostname, host) for host in self._hosts):
                continue
            before, after = self._specs.pop(hostname, ()), tuple(self._wanted(hostname))
            self._part.replace(before, after)
            if after:
                self._specs[hostname] = after
            changed |= [spec.name for spec in before] != [spec.name for spec in after]
        return changed

    def close(self) -> None:
        """Have the part without what is here."""
        for specs in self._specs.values():
            self._part.replace(specs, ())
        self._specs.clear()

    def _wanted(self, hostname: str) -> Iterator[ClusterSpec | AssignmentSpec]:
        seen = self._model.look(self._audience.viewer, hostname)
        if seen is None or seen.host is None or seen.host.service.external:
            return
        for cluster in clusters(seen, self._audience):
            # What passes is TLS already, and whoever began it has said what comes before it.
            policy = msgspec.structs.replace(cluster.policy, tls=None, proxy_header="")
            yield msgspec.structs.replace(
                cluster,
                name=names.server_name(cluster.name),
                assignment="",
                policy=policy,
                endpoints=_secured(cluster.endpoints),
            )
        for assignment in assignments(seen, self._audience):
            secured = _secured(assignment.endpoints)
            yield msgspec.structs.replace(assignment, name=names.server_name(assignment.name), endpoints=secured)


def _secured(endpoints: tuple[Endpoint, ...]) -> tuple[Endpoint, ...]:
    """Those that take mutual TLS (Istio: EndpointsWithMTLSFilter)."""
    return tuple(endpoint for endpoint in endpoints if endpoint.mutual_tls)
