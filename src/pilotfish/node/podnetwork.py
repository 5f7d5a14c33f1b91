"""A pod's network: its namespace, its link to the host, and the routes at both ends.

    pod:   eth0 <address>/32 ── default via 169.254.1.1 (permanent neighbour: the host end)
    host:  pf<home id><n>    ── <address>/32, no address of its own, forwarding on

Pods are routed and not bridged, so that the host sees every packet and connection tracking can undo what service
translation did. Both ends know each other's hardware address from the start: nobody waits for ARP.
All of this blocks; from asyncio, call it through `asyncio.to_thread`.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from pilotfish.node import netns
from pilotfish.node.meshnetwork import POD_GATEWAY, MeshNetwork, link_prefix, netns_prefix, short_uid
from pilotfish.node.sysctl import write_sysctl

_HOST_MAC = "ee:ee:ee:ee:ee:ee"
_INTERFACE = "eth0"
_ALIAS = re.compile(r"pilotfish pod (?P<uid>[0-9a-z]+) (?P<addresses>\S+)")


@dataclass(frozen=True)
class PodNetwork:
    """A pod's network as it exists. `addresses` is empty and `link` is "" where only the namespace was made."""

    short_uid: str
    netns: str
    link: str
    addresses: tuple[IPv4Address | IPv6Address, ...]

    @property
    def path(self) -> Path:
        """What `netns.run_in`, `nsenter --net=` and Envoy's `network_namespace_filepath` take."""
        return netns.path_of(self.netns)


def create_pod_network(mesh: MeshNetwork, uid: str, address: IPv4Address) -> PodNetwork:
    """Makes a pod's network; what is left of an earlier attempt for the same pod is removed first.

    Blocks for some ten milliseconds. On failure nothing is left. Raises OSError or NetlinkError.
    """
    delete_pod_network(mesh.home_id, uid)
    pod = PodNetwork(short_uid(uid), mesh.pod_netns(uid), mesh.pod_link(address), (address,))
    try:
        path = netns.create(pod.netns)
        netns.run_in(path, _prepare_namespace)
        _create_link(mesh, pod, address)
    except BaseException:
        delete_pod_network(mesh.home_id, uid)
        raise
    return pod


def open_host_loopback(pod: PodNetwork) -> None:
    """Let a pod reach 127.0.0.1 of the host, as HOST_LOOPBACK. Raises OSError.

    The host's rules translate the address for all pods; a link without this drops what comes for the loopback.
    """
    write_sysctl(f"net/ipv4/conf/{pod.link}/route_localnet", 1)


def delete_pod_network(home_id: str, uid: str) -> None:
    """Removes a pod's namespace and link, also when half-made or not there. `uid` may be the short form."""
    short = short_uid(uid)
    with IPRoute() as netlink:
        for pod in _linked_pods(netlink, home_id):
            if pod.short_uid == short:
                delete_link(netlink, pod.link)
    netns.delete(f"{netns_prefix(home_id)}{short}")


def list_pod_networks(home_id: str) -> list[PodNetwork]:
    """Every pod network of the mesh that exists on the host, whole or half-made, by short uid."""
    with IPRoute() as netlink:
        pods = {pod.short_uid: pod for pod in _linked_pods(netlink, home_id)}
    for name in netns.names(netns_prefix(home_id)):
        short = name.removeprefix(netns_prefix(home_id))
        pods.setdefault(short, PodNetwork(short, name, "", ()))
    return [pods[short] for short in sorted(pods)]


def delete_link(netlink: IPRoute, name: str) -> None:
    """Removes a link of the host; one that is not there is no error."""
    for index in netlink.link_lookup(ifname=name):
        with contextlib.suppress(NetlinkError):  # it went away by itself, as links do when their namespace ends
            netlink.link("del", index=index)


def _prepare_namespace() -> None:
    """Inside, before there is an interface: what interfaces inherit from `default`."""
    # Capture sends packets with the pod's address to 127.0.0.1; strict checks would drop them.
    for place in ("all", "default"):
        write_sysctl(f"net/ipv4/conf/{place}/rp_filter", 0)
        write_sysctl(f"net/ipv4/conf/{place}/accept_redirects", 0)
    # IPv6 stays on the loopback, where applications expect ::1; elsewhere there is none, and connects fail at once.
    write_sysctl("net/ipv6/conf/default/disable_ipv6", 1, optional=True)
    # As container runtimes set it: unprivileged applications may listen on port 80.
    write_sysctl("net/ipv4/ip_unprivileged_port_start", 0)


def _create_link(mesh: MeshNetwork, pod: PodNetwork, address: IPv4Address) -> None:
    pod_mac = "02:70:" + ":".join(f"{octet:02x}" for octet in address.packed)
    with pod.path.open("rb") as namespace, IPRoute() as host:
        delete_link(host, pod.link)  # of an attempt that ended before the link said whose it was
        host.link(
            "add",
            ifname=pod.link,
            kind="veth",
            address=_HOST_MAC,
            peer={"ifname": _INTERFACE, "net_ns_fd": namespace.fileno(), "address": pod_mac},
        )
        index = host.link_lookup(ifname=pod.link)[0]
        write_sysctl(f"net/ipv6/conf/{pod.link}/disable_ipv6", 1, optional=True)
        write_sysctl(f"net/ipv4/conf/{pod.link}/rp_filter", 1)  # a pod speaks with its own address only
        write_sysctl(f"net/ipv4/conf/{pod.link}/forwarding", 1)
        host.link("set", index=index, state="up", ifalias=f"pilotfish pod {pod.short_uid} {address}")
        netns.run_in(pod.path, lambda: _configure_interface(address))
        host.neigh("replace", dst=str(address), lladdr=pod_mac, ifindex=index, state="permanent")
        host.route("replace", dst=f"{address}/32", oif=index, scope="link", prefsrc=str(mesh.gateway))


def _configure_interface(address: IPv4Address) -> None:
    with IPRoute() as pod:
        pod.link("set", index=1, state="up")
        index = pod.link_lookup(ifname=_INTERFACE)[0]
        pod.addr("add", index=index, address=str(address), prefixlen=32)
        pod.link("set", index=index, state="up")
        pod.neigh("add", dst=POD_GATEWAY, lladdr=_HOST_MAC, ifindex=index, state="permanent")
        pod.route("add", dst=f"{POD_GATEWAY}/32", oif=index, scope="link")
        pod.route("add", dst="default", gateway=POD_GATEWAY, oif=index)


def _linked_pods(netlink: IPRoute, home_id: str) -> list[PodNetwork]:
    """The pods that have a host end. Its alias says whose it is: the kernel keeps what the agent must not forget."""
    found = []
    for link in netlink.get_links():
        name, alias = link.get("ifname"), _ALIAS.fullmatch(link.get("ifalias") or "")
        if name.startswith(link_prefix(home_id)) and alias:
            addresses = tuple(map(ip_address, alias["addresses"].split(",")))
            found.append(PodNetwork(alias["uid"], f"{netns_prefix(home_id)}{alias['uid']}", name, addresses))
    return found
