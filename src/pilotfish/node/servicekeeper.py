"""Keeps the host's part of the network in force while the node agent runs: service addresses as the API has them."""

from __future__ import annotations

import asyncio
import logging
from typing import Never

from pilotfish.api.kinds import ENDPOINT_SLICE, SERVICE
from pilotfish.client.informers import Informers
from pilotfish.node.meshnetwork import MeshNetwork
from pilotfish.node.network import ensure_host_network
from pilotfish.node.nft import NftError
from pilotfish.node.serviceproxy import ServiceProxy

log = logging.getLogger(__name__)

REPAIR_SECONDS = 60.0
"""How often everything is put in force again, whatever others did to it (a new uplink, `nft flush ruleset`)."""


async def keep_services(mesh: MeshNetwork, informers: Informers) -> Never:
    """Follow Services and EndpointSlices until cancelled. What comes while the rules are being set is one change."""
    services, slices = informers.informer(SERVICE), informers.informer(ENDPOINT_SLICE)
    changed = asyncio.Event()
    for informer in (services, slices):
        await informer.synced()
        informer.subscribe(lambda _: changed.set())
    proxy = ServiceProxy(mesh)
    repair = False
    while True:
        changed.clear()
        wanted = tuple(services.objects.values()), tuple(slices.objects.values())
        try:
            if repair:
                await asyncio.to_thread(ensure_host_network, mesh)
            await asyncio.to_thread(proxy.sync, *wanted, replace=repair)
        except (NftError, OSError) as error:
            log.error("services are not all reachable by their addresses: %s", error)
        try:
            async with asyncio.timeout(REPAIR_SECONDS):
                await changed.wait()
            repair = False
        except TimeoutError:
            repair = True
