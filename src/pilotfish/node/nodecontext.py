"""What a pod needs of the node that it runs on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Protocol

from pilotfish.api.core import Service
from pilotfish.client.client import Client
from pilotfish.client.events import EventRecorder
from pilotfish.home import Home, Settings
from pilotfish.node.capture import CaptureSpec
from pilotfish.node.proxy import Certificate
from pilotfish.node.usage import Load, Node


@dataclass(frozen=True, slots=True)
class Attachment:
    """A pod's place in the network; on the host's network `netns` is None and `ip` the node's."""

    ip: str
    netns: Path | None


class Networks(Protocol):
    """Makes and removes the networks of pods, with their capture rules and their DNS."""

    async def attach(self, uid: str, namespace: str, capture: CaptureSpec | None) -> Attachment:
        """A network for the pod, in place of an earlier one. Raises SandboxError."""
        ...

    async def adopt(
        self, uid: str, namespace: str, address: IPv4Address, capture: CaptureSpec | None
    ) -> Attachment | None:
        """The network that the pod has already, or None when it is not there any more."""
        ...

    async def open_host_loopback(self, uid: str) -> None:
        """Let the pod, which has its network, reach 127.0.0.1 of the host as HOST_LOOPBACK. Raises SandboxError."""
        ...

    async def detach(self, uid: str) -> None:
        """Remove the pod's network; one that is not there is no error. Raises SandboxError."""
        ...


class ControlPlane(Protocol):
    """What pods need of the control plane."""

    async def certificate(self, identity: str) -> Certificate:
        """A certificate for an identity (a SPIFFE URI). Raises ApiError."""
        ...

    async def report(self, node: Node, loads: Mapping[str, Load]) -> float:
        """Tell what a proxy uses: see `usage.Report`. Raises ApiError."""
        ...


@dataclass(frozen=True)
class NodeContext:
    """Shared by all pods of the node."""

    home: Home
    settings: Settings
    client: Client
    events: EventRecorder
    networks: Networks
    control_plane: ControlPlane
    services: Callable[[str], tuple[Service, ...]]
    """The Services that pods of a namespace are told of in their environment."""

    @property
    def host_ip(self) -> str:
        return self.settings.gateway_ip
