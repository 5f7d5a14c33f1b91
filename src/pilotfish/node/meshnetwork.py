"""How a mesh's parts on the host are named and numbered: one record, from which all else follows."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from pilotfish.home import Home

AUTO_ALLOCATED = IPv4Network("240.240.0.0/16")
"""Whence hosts without an address get one (Istio: ISTIO_META_DNS_AUTO_ALLOCATE). Only sidecars know these addresses."""

POD_GATEWAY = "169.254.1.1"
"""A pod's next hop: link-local, the same in every pod, owned by nobody."""

HOST_LOOPBACK = POD_GATEWAY
"""As which pods that may do so reach 127.0.0.1 of the host: nothing else is to be had there."""


@dataclass(frozen=True)
class MeshNetwork:
    """A mesh's networks on this host. Every name below carries the home's id, and removal goes by that."""

    home_id: str
    pod_cidr: IPv4Network
    service_cidr: IPv4Network

    @staticmethod
    def of(home: Home) -> MeshNetwork:
        """Raises FileNotFoundError where the home has no settings yet."""
        settings = home.settings()
        return MeshNetwork(home.id, IPv4Network(settings.pod_cidr), IPv4Network(settings.service_cidr))

    @property
    def gateway(self) -> IPv4Address:
        """The node's own address inside the mesh."""
        return self.pod_cidr[1]

    @property
    def gateway_link(self) -> str:
        return link_prefix(self.home_id)

    def pod_link(self, address: IPv4Address) -> str:
        """The host end of the pod's link, numbered by the place in the pod network (hex); at most 15 characters."""
        return f"{link_prefix(self.home_id)}{int(address) - int(self.pod_cidr.network_address):x}"

    def pod_netns(self, uid: str) -> str:
        return f"{netns_prefix(self.home_id)}{short_uid(uid)}"


def short_uid(uid: str) -> str:
    """The first eight hex digits of a pod's uid; they name its namespace."""
    return uid.replace("-", "")[:8]


def link_prefix(home_id: str) -> str:
    return f"pf{home_id}"


def netns_prefix(home_id: str) -> str:
    return f"pf-{home_id}-"


def host_table(home_id: str) -> str:
    """The nft table that lets pods' traffic through and keeps what is not a pod's out."""
    return f"pilotfish-{home_id}"


def services_table(home_id: str) -> str:
    """The nft table that translates cluster IPs; apart from the other because it is replaced as a whole."""
    return f"pilotfish-{home_id}-services"
