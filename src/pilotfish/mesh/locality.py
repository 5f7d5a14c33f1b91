"""Which endpoints a client prefers by where it is (Istio: pilot/pkg/networking/core/loadbalancer).

A locality is "region/zone/subzone" or shorter. What a client prefers is worked out from what it is and what is
configured, so that clients that prefer the same share what they are sent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

from pilotfish.api.networking.destination_rule import PortTrafficPolicy, TrafficPolicy
from pilotfish.api.networking.load_balancer import (
    LoadBalancerSettings,
    LocalityLoadBalancerSetting,
    ZoneAwareLoadBalancerSetting,
)
from pilotfish.mesh.records import Endpoint, Labels, Record

NETWORK = "topology.istio.io/network"
_PLACES = ("topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone")
_ELSEWHERE = 3
"""How far away what is not of the same region is."""


class Zones(Record):
    """That Envoy itself keeps requests in the client's zone as far as its endpoints can take them, where there are at
    least so many endpoints; or, not `enabled`, that it does not.
    """

    enabled: bool = True
    least: int | None = None


class LocalitySetting(Record):
    """What is configured: shares of localities (from, and to which how much), the regions to fail over to (from, to),
    and the labels (or "label=value") that decide before distance does.

    `always`: also where no endpoint is ever ejected. With `zones` regions alone count as distance.
    """

    distribute: tuple[tuple[str, tuple[tuple[str, int], ...]], ...] = ()
    failover: tuple[tuple[str, str], ...] = ()
    priority: tuple[str, ...] = ()
    always: bool = False
    zones: Zones | None = None

    @property
    def label_keys(self) -> frozenset[str]:
        """The labels of clients that it looks at, apart from those that say where they are."""
        names = {label for label in self.priority if "=" not in label} if not self.distribute else set()
        return frozenset(names.difference(_PLACES, (NETWORK,)))


class Preference(Record):
    """What one client prefers. `shares` of the endpoints' localities (by pattern), and no others; or what is nearest to
    `locality`, then in `next_region`, then elsewhere; before that, those that have the most of `labels` in their order.
    """

    shares: tuple[tuple[str, int], ...] = ()
    locality: str | None = None
    next_region: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    by_region: bool = False
    """All of a region is equally near."""


class Client(Record):
    """What of a client decides: `labels` are those that some setting looks at."""

    locality: str = ""
    labels: Labels = ()


def locality_setting(said: LocalityLoadBalancerSetting | None) -> LocalitySetting | None:
    """What a rule or the mesh says; None where that is nothing, or to leave localities alone."""
    if said is None or said.enabled is False:
        return None
    return LocalitySetting(
        distribute=tuple((each.from_, tuple(sorted(each.to.items()))) for each in said.distribute),
        failover=tuple((each.from_, each.to) for each in said.failover),
        priority=said.failover_priority,
    )


def zone_setting(said: ZoneAwareLoadBalancerSetting) -> LocalitySetting:
    """What a rule or the mesh says of zones."""
    enabled = said.enabled is not False
    return LocalitySetting(
        failover=tuple((each.from_, each.to) for each in said.failover) if enabled else (),
        priority=said.failover_priority if enabled else (),
        always=enabled,
        zones=Zones(enabled, said.min_cluster_size),
    )


CLOSE = LocalitySetting(priority=(NETWORK, *_PLACES[:2]), always=True)
"""What a service asks for whose clients are to prefer what is close (trafficDistribution)."""


def looks_at(policies: Iterable[TrafficPolicy]) -> tuple[frozenset[str], bool]:
    """By what policies tell clients apart: the labels, and whether where they are matters to any."""
    labels: set[str] = set()
    places = False
    for policy in policies:
        parts: tuple[TrafficPolicy | PortTrafficPolicy, ...] = (policy, *policy.port_level_settings)
        for said in parts:
            balancing = said.load_balancer or LoadBalancerSettings()
            own = balancing.locality_lb_setting is not None or balancing.zone_aware_lb_setting is not None
            places = places or own or said.outlier_detection is not None
            if (setting := effective(said, None)) is not None:
                labels |= setting.label_keys
    return frozenset(labels), places


def effective(
    policy: TrafficPolicy | PortTrafficPolicy, of_mesh: LocalitySetting | None, *, close: bool = False
) -> LocalitySetting | None:
    """What holds for a port: what its rule says, else what its service asks for (`close`), else what the mesh says."""
    said = policy.load_balancer or LoadBalancerSettings()
    if said.zone_aware_lb_setting is not None:
        return zone_setting(said.zone_aware_lb_setting)
    if said.locality_lb_setting is not None:
        return locality_setting(said.locality_lb_setting)
    return CLOSE if close else of_mesh


def weighted(setting: LocalitySetting | None, *, ejects: bool) -> bool:
    """Whether the weights of localities decide, and not those of endpoints alone."""
    if setting is None or setting.zones is not None:
        return False
    return bool(setting.distribute) or ((ejects or setting.always) and bool(setting.failover or setting.priority))


def preference(setting: LocalitySetting | None, client: Client, *, ejects: bool) -> Preference | None:
    """What a client prefers; None where that is nothing. Without outlier detection (`ejects`) nothing fails over."""
    if setting is None:
        return None
    if setting.distribute:
        found = next((to for pattern, to in setting.distribute if matches(client.locality, pattern)), None)
        return Preference(shares=found) if found else None
    if not (ejects or setting.always) or (setting.zones is not None and not setting.zones.enabled):
        return None
    by_region = setting.zones is not None
    by_distance = bool(setting.failover) or not setting.priority or by_region
    region = client.locality.partition("/")[0]
    return Preference(
        locality=client.locality if by_distance else None,
        next_region=next((to for from_, to in setting.failover if from_ == region), None) if by_distance else None,
        labels=tuple(_wanted(label, client) for label in setting.priority),
        by_region=by_region,
    )


def _wanted(label: str, client: Client) -> tuple[str, str]:
    name, equals, value = label.partition("=")
    return name, value if equals else described(client.labels, client.locality).get(name, "")


def described(labels: Labels, locality: str, network: str = "") -> dict[str, str]:
    """Labels, with those that say where something is."""
    places = dict(zip(_PLACES, locality.split("/", 2), strict=False)) if locality else {}
    return {**places, **({NETWORK: network} if network else {}), **dict(labels)}


def matches(locality: str, pattern: str) -> bool:
    """Whether a locality is one of a pattern's: each part equal, or "*", or left out (but not the region)."""
    places = [*locality.split("/", 2), "", ""]
    wanted = [*pattern.split("/", 2), "", ""]
    return all(wanted[n] in (("*", places[n]) if n == 0 else ("*", "", places[n])) for n in range(3))


def distance(one: str, other: str) -> int:
    """0 for the same locality, 1 for the same zone, 2 for the same region, 3 for elsewhere."""
    ours, theirs = [*one.split("/", 2), "", ""][:3], [*other.split("/", 2), "", ""][:3]
    same = next((n for n in range(3) if ours[n] != theirs[n]), _ELSEWHERE)
    return _ELSEWHERE - same


def rank(preferred: Preference, endpoint: Endpoint) -> tuple[int, int]:
    """The lower, the more a client prefers an endpoint: what decides first, then distance."""
    far = 0
    if preferred.locality is not None:
        far = distance(preferred.locality, endpoint.locality)
        if preferred.by_region and far < _ELSEWHERE:
            far = 0
        region = endpoint.locality.partition("/")[0]
        if far == _ELSEWHERE and preferred.next_region not in (None, region):
            far += 1
    return _unlike(preferred.labels, endpoint), far


def _unlike(wanted: tuple[tuple[str, str], ...], endpoint: Endpoint) -> int:
    """How many labels from the first that differs on. One of another network comes after all that are of ours."""
    labels = described(endpoint.labels, endpoint.locality, endpoint.network)
    other_network = 0
    for position, (name, value) in enumerate(wanted):
        if labels.get(name, "") != value:
            if position == 0 and name == NETWORK:
                other_network = len(wanted)
                continue
            return other_network + len(wanted) - position
    return other_network


class Group(NamedTuple):
    """Endpoints of one locality; those of a lower `priority` are used first, by `weight` among groups of the same."""

    locality: str
    priority: int
    weight: int
    endpoints: tuple[Endpoint, ...]


def grouped(endpoints: Iterable[Endpoint], preferred: Preference | None) -> list[Group]:
    """Endpoints in a fixed order, as a client prefers them; in one group for each locality where it prefers none."""
    ordered = sorted(endpoints, key=lambda e: (e.locality, e.address, e.port))
    if preferred is None or preferred.shares:
        alike = (tuple(members) for _, members in groupby(ordered, key=lambda e: e.locality))
        groups = [Group(members[0].locality, 0, sum(e.weight for e in members), members) for members in alike]
        return groups if preferred is None else list(_shared_out(groups, preferred.shares))
    ranked: dict[tuple[tuple[int, int], str], list[Endpoint]] = {}
    for endpoint in ordered:
        ranked.setdefault((rank(preferred, endpoint), endpoint.locality), []).append(endpoint)
    ranks = sorted({at for at, _ in ranked})
    return [
        Group(locality, ranks.index(at), sum(e.weight for e in members), tuple(members))
        for (at, locality), members in sorted(ranked.items(), key=lambda item: item[0])
    ]


def _shared_out(groups: Iterable[Group], shares: Iterable[tuple[str, int]]) -> Iterator[Group]:
    """The groups that have a share, each with it; several that have one together have it by their weights."""
    left = list(groups)
    for pattern, share in shares:
        together = [group for group in left if matches(group.locality, pattern)]
        left = [group for group in left if group not in together]
        whole = sum(group.weight for group in together)
        yield from (group._replace(weight=math.ceil(group.weight * share / whole)) for group in together if share)
