"""The names that the mesh gives, and who sees which: a lookup is a walk over a few dictionaries.

The names of a Kubernetes service and the aliases under search domains are those of Istio's agent (pkg/dns/client).
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import msgspec

from pilotfish.node.dns import wire

log = logging.getLogger(__name__)

EVERYONE = "*"
GATEWAY = "@gateway"
"""The scope of clients without a sidecar; no namespace can have this name."""


class NameRecord(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One resource of the name table: a host as one scope sees it. `resource` is "*/host" or "<namespace>/host".

    `canonical` is the name of which the host is an alias.
    """

    resource: str
    version: str
    ips: tuple[str, ...] = ()
    registry: str = ""
    shortname: str = ""
    namespace: str = ""
    alt_hosts: tuple[str, ...] = ()
    canonical: str = ""

    @property
    def scope(self) -> str:
        return self.resource.partition("/")[0]

    @property
    def host(self) -> str:
        return self.resource.partition("/")[2]


@dataclass(frozen=True, slots=True)
class Addresses:
    """Packed addresses, in the order of the name table."""

    ipv4: tuple[bytes, ...]
    ipv6: tuple[bytes, ...]

    def of_type(self, qtype: int) -> tuple[bytes, ...]:
        """What answers a question of this type; empty for the types that names of a mesh do not have."""
        match qtype:
            case wire.Type.A:
                return self.ipv4
            case wire.Type.AAAA:
                return self.ipv6
            case wire.Type.ANY:
                return self.ipv4 + self.ipv6
            case _:
                return ()


@dataclass(frozen=True, slots=True)
class Lookup:
    """What became of a name. `addresses` is None when nobody owns it.

    `alias_length` is how many bytes of the question's name, less the search domain, are the name that was found, 0 when
    it is the name itself. `consulted` are the names on which this outcome depends, wildcards left out. `host` is whose
    the name is. `canonical` is the name that it is an alias of (a CNAME), and then `addresses` are those of that name.
    """

    addresses: Addresses | None
    alias_length: int
    consulted: tuple[bytes, ...]
    host: str = ""
    canonical: bytes = b""


@dataclass(frozen=True, slots=True, order=True)
class _Claim:
    """An entry's claim to a name; the lowest rank wins: a host's own name goes before a short form of another's."""

    rank: int
    resource: str
    addresses: Addresses = field(compare=False)
    canonical: bytes = field(compare=False, default=b"")

    def lookup(self, alias_length: int, consulted: tuple[bytes, ...]) -> Lookup:
        """The outcome of a lookup that ended here."""
        return Lookup(self.addresses, alias_length, consulted, self.resource.partition("/")[2], self.canonical)


NO_ADDRESSES = Addresses((), ())
MAX_ALIASES = 8
"""How many aliases are followed, one to the next."""

Claims = dict[bytes, list[_Claim]]


@dataclass(slots=True)
class _Index:
    exact: Claims = field(default_factory=dict)
    wildcards: Claims = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a claim is put: the index's scope and the name; `wildcard` names lack their "*."."""

    scope: str
    name: bytes
    wildcard: bool
    rank: int


def _canonical(record: NameRecord) -> bytes:
    if not record.canonical:
        return b""
    try:
        return wire.encode_name(record.canonical)
    except ValueError as error:
        log.warning("%s of the name table is an alias of nothing: %s", record.resource, error)
        return b""


def parse_addresses(ips: Iterable[str]) -> Addresses:
    """The addresses among `ips`; what is none (a CIDR range) is left out, as Istio does."""
    ipv4: list[bytes] = []
    ipv6: list[bytes] = []
    for text in ips:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            continue
        (ipv4 if address.version == 4 else ipv6).append(address.packed)
    return Addresses(tuple(ipv4), tuple(ipv6))


class Table:
    """All names of the mesh, indexed for lookups by scope."""

    def __init__(self, cluster_domain: str) -> None:
        self._cluster_domain = cluster_domain
        self._records: dict[str, NameRecord] = {}
        self._indexes: dict[str, _Index] = {}

    @property
    def records(self) -> Mapping[str, NameRecord]:
        """What the table was made of, by resource name."""
        return self._records

    def update(self, changed: Iterable[NameRecord], removed: Iterable[str]) -> frozenset[bytes] | None:
        """Apply a change; gives the names whose answers may differ now, or None for any name (a wildcard changed)."""
        touched: set[bytes] = set()
        wildcard = False
        for place in (p for resource in removed for p in self._withdraw(resource)):
            touched.add(place.name)
            wildcard |= place.wildcard
        for record in changed:
            for place in (*self._withdraw(record.resource), *self._claim(record)):
                touched.add(place.name)
                wildcard |= place.wildcard
        return None if wildcard else frozenset(touched)

    def _claim(self, record: NameRecord) -> list[_Place]:
        addresses = parse_addresses(record.ips)
        canonical = _canonical(record)
        self._records[record.resource] = record
        places = list(self._places(record))
        for place in places:
            claims = self._claims(place).setdefault(place.name, [])
            claims.append(_Claim(place.rank, record.resource, addresses, canonical))
            claims.sort()
        return places

    def _withdraw(self, resource: str) -> list[_Place]:
        record = self._records.pop(resource, None)
        if record is None:
            return []
        places = list(self._places(record))
        for place in places:
            claims = self._claims(place)
            left = [c for c in claims.get(place.name, ()) if c.resource != resource]
            if left:
                claims[place.name] = left
            else:
                claims.pop(place.name, None)
        return places

    def _claims(self, place: _Place) -> Claims:
        index = self._indexes.setdefault(place.scope, _Index())
        return index.wildcards if place.wildcard else index.exact

    def _places(self, record: NameRecord) -> Iterator[_Place]:
        scopes = [record.scope]
        if record.registry == "Kubernetes":
            scopes.append(GATEWAY)
        for rank, host, scope in [
            *((0, record.host, scope) for scope in scopes),
            *((1, host, scope) for host in self._short_forms(record) for scope in scopes),
            *((1, host, record.namespace) for host in self._shortest_form(record)),
        ]:
            wildcard = host.startswith("*.")
            try:
                name = wire.encode_name(host[2:] if wildcard else host).lower()
            except ValueError as error:
                log.warning("%s of the name table is left out: %s", record.resource, error)
                continue
            yield _Place(scope, name, wildcard, rank)

    def _short_forms(self, record: NameRecord) -> list[str]:
        """a.ns and a.ns.svc for a.ns.svc.cluster.local; none for services of another cluster's domain."""
        if not self._is_service(record):
            return []
        name = f"{record.shortname}.{record.namespace}"
        return [name, f"{name}.svc", *record.alt_hosts]

    def _shortest_form(self, record: NameRecord) -> list[str]:
        """The bare name, which only the service's own namespace knows it by."""
        seen_there = record.scope in (EVERYONE, record.namespace)
        return [record.shortname] if self._is_service(record) and seen_there else []

    def _is_service(self, record: NameRecord) -> bool:
        ours = record.host.lower().endswith(f".{self._cluster_domain}")
        return record.registry == "Kubernetes" and bool(record.shortname and record.namespace) and ours

    def lookup(self, scopes: Iterable[str], search: frozenset[bytes], name: bytes) -> Lookup:
        """Find a name in lower case for a client that sees `scopes` (the first goes before the others).

        The name itself, then the name less one of the client's search domains, then wildcards with the most specific
        first, likewise for both. Aliases are followed as far as the table knows; one that leads round leads nowhere.
        """
        found = self._lookup(indexes := self._indexes_of(scopes), search, name)
        for _ in range(MAX_ALIASES):
            if not found.canonical:
                return found
            ahead = self._lookup(indexes, frozenset(), found.canonical.lower())
            consulted = (*found.consulted, *ahead.consulted)
            if not ahead.canonical:
                return replace(ahead, alias_length=0, consulted=consulted, canonical=found.canonical)
            found = replace(ahead, consulted=consulted)
        return replace(found, addresses=NO_ADDRESSES, canonical=b"")

    def _indexes_of(self, scopes: Iterable[str]) -> list[_Index]:
        return [index for scope in scopes if (index := self._indexes.get(scope))]

    def _lookup(self, indexes: list[_Index], search: frozenset[bytes], name: bytes) -> Lookup:
        if found := _first([i.exact for i in indexes], name):
            return found.lookup(0, (name,))
        offsets = wire.label_offsets(name)
        ends = [at for at in offsets[1:] if name[at:] in search]
        prefixes = [name[:end] + b"\0" for end in ends]
        consulted = (name, *prefixes)
        for end, prefix in zip(ends, prefixes, strict=True):
            if found := _first([i.exact for i in indexes], prefix):
                return found.lookup(end, consulted)
        wildcards = [i.wildcards for i in indexes if i.wildcards]
        if wildcards:
            for at in offsets[1:]:
                if found := _first(wildcards, name[at:]):
                    return found.lookup(0, consulted)
                for end in (e for e in ends if e > at):
                    if found := _first(wildcards, name[at:end] + b"\0"):
                        return found.lookup(end, consulted)
        return Lookup(None, 0, consulted)


def _first(claims: Iterable[Claims], name: bytes) -> _Claim | None:
    return next((found[0] for c in claims if (found := c.get(name))), None)
