"""What a mesh has in the host's own network: a link with the gateway address, a route to its services, and rules.

    pf<home id> ═ pf<home id>peer     the gateway address; the service network is routed here
    table inet pilotfish-<home id>    what is forwarded, refused and masqueraded

The gateway link is a veth pair whose ends both stay on the host: pods need veth anyway, and so a kernel without the
dummy driver will do. Everything carries the home's id, is made again without harm, and is found
by its name for removal. All of this blocks, and pyroute2 runs an event loop of its own: from asyncio, call it through
`asyncio.to_thread`.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyroute2 import IPRoute

from pilotfish.node import netns
from pilotfish.node.firewall import close_foreign_chains, open_foreign_chains
from pilotfish.node.meshnetwork import (
    AUTO_ALLOCATED,
    HOST_LOOPBACK,
    MeshNetwork,
    host_table,
    link_prefix,
    netns_prefix,
)
from pilotfish.node.nft import NftError, replace_table, run_nft, tables
from pilotfish.node.podnetwork import delete_link
from pilotfish.node.sysctl import read_sysctl, write_sysctl

_ANY_TABLE = "pilotfish-"


def ensure_host_network(mesh: MeshNetwork) -> None:
    """Makes what is missing of the mesh's part of the host's network. Blocks; raises NftError, OSError, NetlinkError.

    Answers to what pods send out come in through the host's uplinks, and Linux asks the link where a packet comes in
    whether it may be forwarded. So forwarding is switched on for links that carry a default route, where it is off;
    rules keep such a link from becoming a router to anything but pods, and removal switches it off again.
    """
    with IPRoute() as netlink:
        _ensure_gateway(netlink, mesh)
        links = {link["index"]: link.get("ifname") for link in netlink.get_links()}
        default_routes = netlink.get_routes(family=2, dst_len=0)
    foreign = {name for name in links.values() if name != "lo" and not name.startswith("pf")}
    uplinks = {links[route.get("oif")] for route in default_routes if route.get("oif") in links} & foreign
    opened = {name for name in uplinks if not _forwarding(name)} | _opened_by(host_table(mesh.home_id))
    run_nft(render_host_table(mesh, opened, foreign))
    open_foreign_chains(mesh.home_id)
    for name in opened & foreign:
        write_sysctl(f"net/ipv4/conf/{name}/forwarding", 1)


def remove_host_network(home_id: str) -> None:
    """Removes every link, namespace and table of the mesh, whole or half-made, and nothing else. Blocks."""
    _close_uplinks(home_id)
    close_foreign_chains(home_id)
    with IPRoute() as netlink:
        for link in netlink.get_links():
            if link.get("ifname").startswith(link_prefix(home_id)):
                delete_link(netlink, link.get("ifname"))
    for name in netns.names(netns_prefix(home_id)):
        netns.delete(name)
    for name in _tables_of(home_id):
        run_nft(f"delete table inet {name}\n")


def render_host_table(mesh: MeshNetwork, opened: Iterable[str], foreign: Iterable[str]) -> str:
    """The script for the mesh's table: `opened` are links that forward because of us, `foreign` all that are not ours.

    Refusals are immediate. What a pod sends to a cluster IP or an allocated address, and is still untranslated when
    services are done with it, has nobody to go to: a port without endpoints, or never declared. It is refused before
    routing, so that it matters not which routes the host has. TCP is answered with a reset, because the kernel limits
    how many ICMP errors it sends, and a connection whose error is withheld would hang.

    The address of a pod that is gone is refused too, by whichever link it would leave: the host's default route would
    carry what was meant for the pod out into other networks, to whoever has that address there.

    HOST_LOOPBACK is 127.0.0.1 to pods whose link lets such packets pass (`podnetwork.open_host_loopback`).
    """
    pods = f'"{link_prefix(mesh.home_id)}*"'
    nowhere = f"{{ {mesh.service_cidr}, {AUTO_ALLOCATED} }}"
    body = f"""\
    set opened {{ type ifname; {_elements(opened)} }}
    set foreign {{ type ifname; {_elements(foreign)} }}

    chain prerouting {{
        type filter hook prerouting priority filter; policy accept;
        iifname {pods} ip daddr {nowhere} meta l4proto tcp reject with tcp reset
        iifname {pods} ip daddr {nowhere} reject with icmp host-unreachable
    }}

    chain forward {{
        type filter hook forward priority filter; policy accept;
        iifname @opened oifname @foreign drop
        ip daddr {mesh.pod_cidr} oifname != {pods} meta l4proto tcp reject with tcp reset
        ip daddr {mesh.pod_cidr} oifname != {pods} reject with icmp host-unreachable
    }}

    chain output {{
        type filter hook output priority filter; policy accept;
        ip daddr {mesh.service_cidr} meta l4proto tcp reject with tcp reset
        ip daddr {mesh.service_cidr} reject with icmp port-unreachable
        ip daddr {mesh.pod_cidr} oifname != {{ "lo", {pods} }} meta l4proto tcp reject with tcp reset
        ip daddr {mesh.pod_cidr} oifname != {{ "lo", {pods} }} reject with icmp host-unreachable
    }}

    chain hostward {{
        type nat hook prerouting priority dstnat; policy accept;
        iifname {pods} ip daddr {HOST_LOOPBACK} meta l4proto tcp dnat ip to 127.0.0.1
    }}

    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        ip saddr {mesh.pod_cidr} oifname != {{ "lo", {pods} }} masquerade
    }}
"""
    return replace_table(host_table(mesh.home_id), body)


def _ensure_gateway(netlink: IPRoute, mesh: MeshNetwork) -> None:
    name = mesh.gateway_link
    if not netlink.link_lookup(ifname=name):
        netlink.link("add", ifname=name, kind="veth", peer={"ifname": f"{name}peer"})
    index, peer = netlink.link_lookup(ifname=name)[0], netlink.link_lookup(ifname=f"{name}peer")[0]
    for end in (name, f"{name}peer"):
        write_sysctl(f"net/ipv6/conf/{end}/disable_ipv6", 1, optional=True)
    netlink.addr("replace", index=index, address=str(mesh.gateway), prefixlen=32)
    netlink.link("set", index=index, state="up")
    netlink.link("set", index=peer, state="up")
    # Without this route the host's own connections to a cluster IP would need a default route, and use its address.
    netlink.route("replace", dst=str(mesh.service_cidr), oif=index, scope="link", prefsrc=str(mesh.gateway))


def _close_uplinks(home_id: str) -> None:
    """Switches off the forwarding that we switched on, or leaves that to another mesh that needs it too."""
    opened = _opened_by(host_table(home_id))
    if not opened:
        return
    others = [name for name in tables(_ANY_TABLE) if name not in _tables_of(home_id) and not name.endswith("-services")]
    if others:
        run_nft(f"add element inet {others[0]} opened {{ {_quoted(opened)} }}\n")
        return
    for name in opened:
        write_sysctl(f"net/ipv4/conf/{name}/forwarding", 0, optional=True)


def _tables_of(home_id: str) -> list[str]:
    return [name for name in tables(host_table(home_id)) if name.split("-")[1] == home_id]


def _opened_by(table: str) -> set[str]:
    """The links on which we switched forwarding on: kept in the table, so that it survives us and dies with it."""
    try:
        listed = run_nft(f"list set inet {table} opened\n")
    except NftError:
        return set()  # there is no such table, or it is half-made
    return set(listed.split('"')[1::2])  # nothing but the elements is quoted


def _forwarding(link: str) -> bool:
    return read_sysctl(f"net/ipv4/conf/{link}/forwarding") == 1


def _elements(names: Iterable[str]) -> str:
    quoted = _quoted(names)
    return f"elements = {{ {quoted} }}" if quoted else ""


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in sorted(names))
