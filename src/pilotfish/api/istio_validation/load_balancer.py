"""What Istio refuses of a load balancer's settings (pkg/config/validation: validateLoadBalancer)."""

from __future__ import annotations

from collections.abc import Iterable

from pilotfish.api.faults import duplicate, forbidden, invalid, required
from pilotfish.api.istio_validation import values
from pilotfish.api.istio_validation.values import Faults
from pilotfish.api.networking.load_balancer import (
    ConsistentHashLB,
    Distribute,
    Failover,
    HTTPCookie,
    LoadBalancerSettings,
    LocalityLoadBalancerSetting,
    ZoneAwareLoadBalancerSetting,
)

_TOPOLOGY = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone")
_MAGLEV_LIMIT = 5000011
"""Envoy's largest table."""


def load_balancer(path: str, settings: LoadBalancerSettings) -> Faults:
    if settings.consistent_hash:
        yield from _consistent_hash(f"{path}.consistentHash", settings.consistent_hash)
    if settings.locality_lb_setting and settings.zone_aware_lb_setting:
        yield forbidden(f"{path}.zoneAwareLbSetting", "localityLbSetting is set already; give one of them")
    if settings.locality_lb_setting:
        yield from locality(f"{path}.localityLbSetting", settings.locality_lb_setting)
    if settings.zone_aware_lb_setting:
        yield from zone_aware(f"{path}.zoneAwareLbSetting", settings.zone_aware_lb_setting)
    yield from values.duration(f"{path}.warmupDurationSecs", settings.warmup_duration_secs)
    if settings.warmup:
        yield from values.duration(f"{path}.warmup.duration", settings.warmup.duration)
        if settings.warmup.aggression == 0:
            yield invalid(f"{path}.warmup.aggression", 0, "expected more than 0; 1 is linear growth")


def load_balancer_warnings(path: str, settings: LoadBalancerSettings, *, ejects: bool) -> Faults:
    """`ejects` says that there is outlier detection, by which an endpoint is known to be unhealthy."""
    if settings.consistent_hash and settings.consistent_hash.minimum_ring_size:
        why = "this field is deprecated; use ringHash.minimumRingSize"
        yield values.warning(f"{path}.consistentHash.minimumRingSize", why)
    fields = (
        ("localityLbSetting", settings.locality_lb_setting),
        ("zoneAwareLbSetting", settings.zone_aware_lb_setting),
    )
    for name, setting in fields:
        if setting and (setting.failover or setting.failover_priority) and not ejects:
            why = "without outlierDetection no endpoint counts as failed, and nothing fails over"
            yield values.warning(f"{path}.{name}", why)


def _consistent_hash(path: str, consistent: ConsistentHashLB) -> Faults:
    if consistent.http_cookie:
        yield from _cookie(f"{path}.httpCookie", consistent.http_cookie)
    if consistent.minimum_ring_size and (consistent.ring_hash or consistent.maglev):
        yield forbidden(f"{path}.minimumRingSize", "ringHash or maglev says the size; leave this deprecated field out")
    if consistent.maglev:
        size = consistent.maglev.table_size
        if size >= _MAGLEV_LIMIT or not _is_prime(size):
            why = f"expected a prime number below {_MAGLEV_LIMIT}, such as 65537"
            yield invalid(f"{path}.maglev.tableSize", size, why)


def _is_prime(number: int) -> bool:
    return number >= 2 and all(number % factor for factor in range(2, int(number**0.5) + 1))


def _cookie(path: str, cookie: HTTPCookie) -> Faults:
    if not cookie.name:
        yield required(f"{path}.name")
    seen: set[str] = set()
    for position, attribute in enumerate(cookie.attributes):
        where = f"{path}.attributes[{position}].name"
        if not attribute.name:
            yield required(where)
        elif attribute.name in seen:
            yield duplicate(where, attribute.name)
        seen.add(attribute.name)


def locality(path: str, setting: LocalityLoadBalancerSetting) -> Faults:
    """The faults of what is said of localities."""
    if setting.distribute and setting.failover:
        yield forbidden(f"{path}.failover", "distribute is set already; give one of them")
    if setting.failover:
        for position, label in enumerate(setting.failover_priority):
            if label in _TOPOLOGY:
                why = f"failover says already which region is next, so that {label} cannot be a priority"
                yield forbidden(f"{path}.failoverPriority[{position}]", why)
    yield from _localities(f"{path}.distribute", [one.from_ for one in setting.distribute])
    for position, one in enumerate(setting.distribute):
        yield from _distribute(f"{path}.distribute[{position}]", one)
    yield from _failovers(f"{path}.failover", setting.failover)


def zone_aware(path: str, setting: ZoneAwareLoadBalancerSetting) -> Faults:
    """The faults of what is said of zones."""
    for position, label in enumerate(setting.failover_priority):
        if label in _TOPOLOGY:
            why = f"regions and zones are looked at in any case, so that {label} cannot be a priority"
            yield forbidden(f"{path}.failoverPriority[{position}]", why)
    yield from _failovers(f"{path}.failover", setting.failover)


def _distribute(path: str, one: Distribute) -> Faults:
    for locality, weight in one.to.items():
        if not 1 <= weight <= 100:
            yield invalid(f"{path}.to[{locality}]", weight, "a locality's share is from 1 to 100")
    if sum(one.to.values()) != 100:
        yield invalid(f"{path}.to", one.to, f"the shares must add up to 100, and are {sum(one.to.values())}")
    yield from _localities(f"{path}.to", one.to)


def _failovers(path: str, failovers: tuple[Failover, ...]) -> Faults:
    for position, one in enumerate(failovers):
        where = f"{path}[{position}]"
        if one.from_ == one.to:
            yield invalid(f"{where}.to", one.to, "it is the region that failed; name another one")
        for name, region in (("from", one.from_), ("to", one.to)):
            if "/" in region or "*" in region:
                yield invalid(f"{where}.{name}", region, "expected a region, without zones and wildcards")


def _localities(path: str, localities: Iterable[str]) -> Faults:
    """Localities "<region>/<zone>/<subzone>", the last part of which may be a star; none may be part of another."""
    before: list[str] = []
    for locality in localities:
        if "*" in locality.removesuffix("*"):
            yield invalid(path, locality, "a locality has one star at most, at its end")
        elif not all(locality.split("/", 2)):
            yield invalid(path, locality, "expected <region>/<zone>/<subzone>, and no part of it empty")
        elif other := next((one for one in before if _nested(one, locality)), ""):
            yield invalid(path, locality, f"it overlaps with {other}")
        before.append(locality)


def _nested(one: str, other: str) -> bool:
    parts, others = ([part for part in text.split("/", 2) if part != "*"] for text in (one, other))
    return all(a == b for a, b in zip(parts, others, strict=False))
