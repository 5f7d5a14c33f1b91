"""What the ADS server serves, seen from its side: resources by type and name, and word of what changed.

The server knows streams, nonces and acknowledgements; the generator knows the mesh. This is all that they share.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

PREFIX = "type.googleapis.com/"
LISTENER = PREFIX + "envoy.config.listener.v3.Listener"
ROUTE = PREFIX + "envoy.config.route.v3.RouteConfiguration"
CLUSTER = PREFIX + "envoy.config.cluster.v3.Cluster"
ENDPOINT = PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
SECRET = PREFIX + "envoy.extensions.transport_sockets.tls.v3.Secret"
EXTENSION = PREFIX + "envoy.config.core.v3.TypedExtensionConfig"


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Resource:
    """One resource, built and serialised once for everyone who gets it.

    `body` is the serialised message inside `Any` (without the type URL); `version` changes exactly when `body` does
    and is the same for equal bodies in every process, so that a reconnecting proxy keeps what is still valid.
    """

    name: str
    version: str
    body: bytes


@dataclass(frozen=True)
class ProxyNode:
    """Who a stream belongs to, from `Node` of its first request: "sidecar~10.1.2.3~web-1.ns~ns.svc.cluster.local".

    `type` is "sidecar", "router" (a gateway), "dns" (a node's DNS process) or "grpc" (gRPC's own xDS client).
    `service_account` is the one that its certificate proves, "" where it was not asked for one.
    """

    id: str
    type: str
    ip: str
    name: str
    namespace: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    service_account: str = ""

    @property
    def labels(self) -> Mapping[str, str]:
        """The workload's labels (Istio: node metadata LABELS)."""
        labels = self.metadata.get("LABELS")
        return labels if isinstance(labels, Mapping) else {}


Changes = Mapping[str, frozenset[str]]
"""Type URL → names of resources that were added, changed or removed."""


class Held(Protocol):
    """What a connected proxy has."""

    def settled(self, type_url: str, name: str) -> bool:
        """Whether the proxy has answered for a resource as it is now: taken it into force, or refused it."""
        ...


class ProxyConfig(Protocol):
    """One connected proxy's configuration as it stands now."""

    def resources(self, type_url: str) -> Mapping[str, Resource]:
        """All that the proxy may have of a type, by name."""
        ...

    def asked(
        self, type_url: str, subscribed: Collection[str], unsubscribed: Collection[str], kept: Collection[str]
    ) -> None:
        """The proxy subscribes to resources by name, and no longer to others; `kept` are what it has of an earlier
        stream, told with the first request of a type. Called before `resources` is asked for what to answer.
        """
        ...

    def answered(self, held: Held) -> None:
        """The proxy has acknowledged or refused something."""
        ...

    def close(self) -> None:
        """The proxy is gone: hold nothing for it any more."""
        ...


class ConfigSource(Protocol):
    """Where configuration comes from."""

    def connect(self, node: ProxyNode, on_change: Callable[[Changes], None]) -> ProxyConfig:
        """`on_change` is called on the event loop after `resources` shows the change, never from within `connect`."""
        ...
