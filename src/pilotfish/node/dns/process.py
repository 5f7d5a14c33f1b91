"""The DNS process put together."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from pilotfish.home import Home, Settings
from pilotfish.node.dns import snapshot
from pilotfish.node.dns.controlserver import ControlServer
from pilotfish.node.dns.counters import Counters
from pilotfish.node.dns.demands import PATIENCE_SECONDS, Demands
from pilotfish.node.dns.exchange import DNS_PORT
from pilotfish.node.dns.listeners import GATEWAY_PORT, Listeners
from pilotfish.node.dns.names import ControlPlane, Subscription
from pilotfish.node.dns.responder import Responder
from pilotfish.node.dns.servers import Servers
from pilotfish.node.dns.table import NameRecord, Table
from pilotfish.node.dns.tcp import TcpServer
from pilotfish.node.dns.udp import UdpServer
from pilotfish.node.dns.upstream import Upstream

log = logging.getLogger(__name__)

RESOLV_CONF = Path("/etc/resolv.conf")
PATIENCE = "PILOTFISH_DNS_HOLD_SECONDS"
"""Environment variable: for how long the first answer for a host may wait for the pod's proxy."""


def names_file(home: Home) -> Path:
    """The last name table."""
    return home.run / "names.json"


def control_plane(home: Home, settings: Settings) -> ControlPlane:
    """Where names come from; the certificate is the node's."""
    pki = home.pki
    return ControlPlane(
        f"{settings.gateway_ip}:{settings.xds_port}", pki / "ca.crt", pki / "node.crt", pki / "node.key"
    )


def node_id(settings: Settings) -> str:
    """How the control plane knows this client."""
    return f"dns~{settings.gateway_ip}~{settings.node_name}.kube-system~{settings.cluster_domain}"


async def run(
    home: Home,
    settings: Settings,
    *,
    resolv_conf: Path = RESOLV_CONF,
    upstream_port: int = DNS_PORT,
    gateway_port: int = GATEWAY_PORT,
) -> None:
    """Answer the node's DNS queries until cancelled. The ports and the file are the usual ones outside of tests."""
    home.run.mkdir(parents=True, exist_ok=True)
    _allow_many_sockets()
    counters = Counters()
    table = Table(settings.cluster_domain)
    servers = Servers(resolv_conf, upstream_port, never=(settings.gateway_ip,))
    async with asyncio.TaskGroup() as group:
        upstream = Upstream(group, servers, counters, port=upstream_port)
        demands = Demands(counters, float(os.environ.get(PATIENCE, PATIENCE_SECONDS)))
        responder = Responder(table, upstream, settings.cluster_domain, counters, demands)
        udp, tcp = UdpServer(group, responder, counters), TcpServer(group, responder, counters)
        listeners = Listeners(responder, udp, tcp)
        saver = snapshot.Saver(names_file(home), lambda: table.records.values())

        def names_changed(changed: Sequence[NameRecord], removed: Sequence[str]) -> None:
            responder.update(changed, removed)
            saver.changed()

        def resolvers_changed() -> None:
            upstream.servers_changed()
            responder.search_changed()

        subscription = Subscription(
            control_plane(home, settings).connect,
            node_id(settings),
            lambda: table.records,
            names_changed,
            demands=demands,
        )

        def stats() -> dict[str, Any]:
            return {
                "counters": msgspec.to_builtins(counters),
                "names": len(table.records),
                "pods": listeners.pods,
                "upstream": servers.report,
                "connected": subscription.connected,
            }

        if saved := snapshot.load(names_file(home)):
            responder.update(saved, ())
        # What is here now stays: the collector need not look at it again, least of all while queries wait.
        gc.collect()
        gc.freeze()
        try:
            for lasting in (
                servers.watch(resolvers_changed),
                saver.run(),
                listeners.sweep(),
                listeners.open_gateway(settings.gateway_ip, gateway_port),
                ControlServer(group, listeners, stats).serve(home.dns_socket),
                subscription.run(),
            ):
                group.create_task(lasting)
            await asyncio.get_running_loop().create_future()
        finally:
            udp.close()
            tcp.close()


def _allow_many_sockets() -> None:
    """Two sockets a pod and one an upstream query: more than the usual soft limit of open files allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
