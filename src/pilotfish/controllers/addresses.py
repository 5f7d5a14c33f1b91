"""Virtual addresses for ServiceEntries that bring none (Istio: pilot/pkg/controllers/ipallocate).

An address is chosen once, written to `status.addresses`, and stays for as long as the entry and the host in it: across
restarts and whatever becomes of other entries. Where it starts looking follows from the host's name, so that an entry
that was deleted and made again mostly gets its old address back.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import msgspec

from pilotfish.api.kinds import SERVICE_ENTRY
from pilotfish.api.networking import ServiceEntry, ServiceEntryAddress
from pilotfish.client.client import Client
from pilotfish.client.events import EventRecorder
from pilotfish.client.informer import Change, ObjectKey
from pilotfish.client.informers import Informers
from pilotfish.controllers.names import fnv32a
from pilotfish.controllers.queue import WorkQueue
from pilotfish.controllers.view import View
from pilotfish.controllers.writes import Patch, apply

IPV4_RANGE = ipaddress.IPv4Network("240.240.0.0/16")
IPV6_RANGE = ipaddress.IPv6Network("2001:2::/48")
ENABLE_LABEL = "networking.istio.io/enable-autoallocate-ip"
_USABLE = IPV4_RANGE.num_addresses - 2
"""Addresses of a range that are given out: neither its first nor its last. The larger range is used as far."""


class Exhausted(Exception):
    """All addresses of a range are taken."""


def wants_addresses(entry: ServiceEntry) -> bool:
    """Whether an entry is given addresses (Istio: ShouldV2AutoAllocateIP)."""
    return (
        entry.spec.resolution != "NONE"
        and not entry.spec.addresses
        and entry.metadata.labels.get(ENABLE_LABEL, "").lower() != "false"
    )


def allocatable_hosts(entry: ServiceEntry) -> list[str]:
    """The entry's hosts that get addresses of their own, each once: wildcards only where names are found on demand."""
    hosts = (h for h in entry.spec.hosts if "*" not in h or entry.spec.resolution == "DYNAMIC_DNS")
    return list(dict.fromkeys(hosts))


def allocate(entry: ServiceEntry, taken: Callable[[str], bool]) -> tuple[ServiceEntryAddress, ...]:
    """What the entry's `status.addresses` are to be.

    `taken` says of an address that another entry holds it by right; addresses that the entry holds already stay unless
    they are taken. Raises Exhausted.
    """
    if not wants_addresses(entry):
        return ()
    held: dict[str, list[str]] = {}
    for address in entry.status.addresses:
        if not taken(address.value):
            held.setdefault(address.host, []).append(address.value)
    chosen = {value for values in held.values() for value in values}
    result: list[ServiceEntryAddress] = []
    for host in allocatable_hosts(entry):
        own = held.get(host, [])
        for network in (IPV4_RANGE, IPV6_RANGE):
            value = next((a for a in own if ipaddress.ip_address(a).version == network.version), None)
            if value is None:
                value = _choose(network, f"{entry.namespace}/{host}", lambda a: a in chosen or taken(a))
                chosen.add(value)
            result.append(ServiceEntryAddress(value=value, host=host))
    return tuple(result)


def _choose(network: ipaddress.IPv4Network | ipaddress.IPv6Network, name: str, is_taken: Callable[[str], bool]) -> str:
    start = fnv32a(name.encode()) % _USABLE
    for step in range(_USABLE):
        address = str(network[1 + (start + step) % _USABLE])
        if not is_taken(address):
            return address
    raise Exhausted(f"all {_USABLE} addresses of {network} are taken")


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Claimant:
    """Who holds an address. Lower `rank` has the better right: who wrote it by hand, then who is older."""

    key: ObjectKey
    rank: tuple[bool, str, str]


class AddressBook:
    """Which entries hold which addresses, kept up to date entry by entry."""

    def __init__(self) -> None:
        self._holders: dict[str, list[Claimant]] = {}
        self._held: dict[ObjectKey, tuple[str, ...]] = {}

    def put(self, entry: ServiceEntry) -> frozenset[ObjectKey]:
        """Note what an entry holds now; returns the entries that share an address with it or did so before."""
        affected = self.remove(entry.key)
        by_hand = tuple(a for a in entry.spec.addresses if _is_address(a))
        allocated = tuple(a.value for a in entry.status.addresses)
        self._held[entry.key] = (*by_hand, *allocated)
        for address in dict.fromkeys(self._held[entry.key]):
            age = (entry.metadata.creation_timestamp or "", entry.metadata.uid)
            holders = self._holders.setdefault(address, [])
            holders.append(Claimant(entry.key, (address not in by_hand, *age)))
            holders.sort(key=lambda holder: holder.rank)
            affected |= {holder.key for holder in holders}
        return affected - {entry.key}

    def remove(self, key: ObjectKey) -> frozenset[ObjectKey]:
        """Forget an entry; returns the entries that shared an address with it."""
        affected: set[ObjectKey] = set()
        for address in self._held.pop(key, ()):
            others = [holder for holder in self._holders.get(address, ()) if holder.key != key]
            affected.update(holder.key for holder in others)
            if others:
                self._holders[address] = others
            else:
                self._holders.pop(address, None)
        return frozenset(affected)

    def taken_from(self, key: ObjectKey) -> Callable[[str], bool]:
        """Says of an address whether someone other than `key` has the better right to it."""

        def taken(address: str) -> bool:
            holders = self._holders.get(address)
            return holders is not None and holders[0].key != key

        return taken


class AddressAllocator:
    """Writes the addresses of entries as soon as the entries come. One worker: each choice sees those before it."""

    def __init__(self, client: Client, informers: Informers, recorder: EventRecorder) -> None:
        self._client = client
        self._recorder = recorder
        self._book = AddressBook()
        self.queue: WorkQueue[ObjectKey] = WorkQueue("address-allocation")
        entries = informers.informer(SERVICE_ENTRY)
        self._entries = View(entries)
        entries.subscribe(self._changed)

    def _changed(self, change: Change[ServiceEntry]) -> None:
        # The view, not the change: our own write may be newer than what the watch tells of the entry.
        entry = self._entries.get(change.key)
        self._requeue(self._book.remove(change.key) if entry is None else self._book.put(entry))
        if entry is not None:
            self.queue.add(entry.key)

    def _requeue(self, keys: Collection[ObjectKey]) -> None:
        for key in keys:
            self.queue.add(key)

    async def reconcile(self, key: ObjectKey) -> float | None:
        entry = self._entries.get(key)
        if entry is None or entry.metadata.deletion_timestamp is not None:
            return None
        try:
            wanted = allocate(entry, self._book.taken_from(key))
        except Exhausted as error:
            self._recorder.event(entry, "Warning", "AddressesExhausted", str(error))
            return None
        if wanted == entry.status.addresses:
            return None
        lost = {a.value for a in entry.status.addresses} - {a.value for a in wanted}
        if lost and wants_addresses(entry):
            listed = ", ".join(sorted(lost))
            self._recorder.event(entry, "Warning", "AddressConflict", f"An older ServiceEntry holds {listed}")
        patch: dict[str, Any] = {
            # The version guards against writing over addresses that someone restored meanwhile.
            "metadata": {"resourceVersion": entry.metadata.resource_version},
            "status": {"addresses": msgspec.to_builtins(wanted) or None},
        }
        await apply(self._client, SERVICE_ENTRY, entry.namespace, Patch(entry, patch, "status"), self._entries)
        written = self._entries.get(key)
        if written is not None:
            self._requeue(self._book.put(written))
        return None
