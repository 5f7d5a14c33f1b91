"""How many pods each of a Deployment's ReplicaSets is to have (kubernetes pkg/controller/deployment: rolling, sync)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pilotfish.api.apps import Deployment, ReplicaSet
from pilotfish.api.meta import IntOrString
from pilotfish.controllers.revisions import DESIRED_REPLICAS, MAX_REPLICAS, oldest_first

Sizes = Mapping[str, int]
"""ReplicaSet name → replicas, for those whose number is to change."""


def _resolved(value: IntOrString | None, total: int, *, up: bool) -> int:
    """A count, or a share of `total` as "25%"; unreadable text counts as nothing (validation refuses it)."""
    if not isinstance(value, str):
        return value or 0
    digits = value.removesuffix("%")
    if not digits.isdecimal():
        return 0
    share = int(digits) * total / 100
    return math.ceil(share) if up else math.floor(share)


def is_rolling(deployment: Deployment) -> bool:
    return deployment.spec.strategy.type != "Recreate"


def fences(deployment: Deployment) -> tuple[int, int]:
    """(pods beyond the wanted number, pods below it) that a rolling update may have; never both none.

    maxSurge is rounded up, maxUnavailable down (ResolveFenceposts).
    """
    if not is_rolling(deployment):
        return 0, 0
    rolling = deployment.spec.strategy.rolling_update
    total = deployment.spec.replicas
    surge = _resolved(rolling.max_surge if rolling else "25%", total, up=True)
    unavailable = _resolved(rolling.max_unavailable if rolling else "25%", total, up=False)
    if not surge and not unavailable:
        unavailable = 1
    return surge, min(unavailable, total)


def total(replica_sets: Sequence[ReplicaSet]) -> int:
    return sum(rs.spec.replicas for rs in replica_sets)


def _available(replica_sets: Sequence[ReplicaSet]) -> int:
    return sum(rs.status.available_replicas for rs in replica_sets)


def new_size(deployment: Deployment, newest: int, old: Sequence[ReplicaSet]) -> int:
    """How many pods the newest ReplicaSet, which has `newest`, may have by now (NewRSNewReplicas)."""
    wanted = deployment.spec.replicas
    if not is_rolling(deployment):
        return wanted
    room = wanted + fences(deployment)[0] - newest - total(old)
    if room <= 0:
        return newest
    return newest + min(room, wanted - newest)


def roll(deployment: Deployment, newest: ReplicaSet, old: Sequence[ReplicaSet]) -> Sizes:
    """The next step of a rolling update: the newest grows, or the old ones shrink. Empty when there is none now."""
    wanted, have = deployment.spec.replicas, newest.spec.replicas
    size = wanted if have > wanted else new_size(deployment, have, old)
    if size != have:
        return {newest.name: size}
    if not total(old):
        return {}
    least = wanted - fences(deployment)[1]
    unavailable = have - newest.status.available_replicas
    spare = total([newest, *old]) - least - unavailable
    if spare <= 0:
        return {}
    unhealthy = _take_unhealthy(old, spare)
    sizes = {rs.name: unhealthy.get(rs.name, rs.spec.replicas) for rs in old}
    surplus = _available([newest, *old]) - least
    for rs in oldest_first(old):
        taken = max(0, min(sizes[rs.name], surplus))
        sizes[rs.name] -= taken
        surplus -= taken
    return {rs.name: sizes[rs.name] for rs in old if sizes[rs.name] != rs.spec.replicas}


def _take_unhealthy(old: Sequence[ReplicaSet], most: int) -> dict[str, int]:
    """Old pods that serve nothing go first: nobody misses them (cleanupUnhealthyReplicas)."""
    sizes: dict[str, int] = {}
    for rs in oldest_first(old):
        taken = max(0, min(most, rs.spec.replicas - rs.status.available_replicas))
        if taken:
            sizes[rs.name] = rs.spec.replicas - taken
            most -= taken
    return sizes


def is_scaling(deployment: Deployment, replica_sets: Sequence[ReplicaSet]) -> bool:
    """Whether someone changed the Deployment's size, rather than its template, since its sets were last scaled."""
    return any(
        rs.spec.replicas
        and rs.metadata.annotations.get(DESIRED_REPLICAS, str(deployment.spec.replicas))
        != str(deployment.spec.replicas)
        for rs in replica_sets
    )


def rescale(deployment: Deployment, newest: ReplicaSet | None, old: Sequence[ReplicaSet]) -> Sizes:
    """The sizes after a change of the Deployment's own: one set takes it all, several share it by their size.

    A set whose size stays is in the result too when only its annotations are to be brought up to date.
    """
    wanted = deployment.spec.replicas
    sets = [newest, *old] if newest else list(old)
    running = [rs for rs in sets if rs.spec.replicas]
    if len(running) <= 1:
        only = next(iter(running), newest or next(reversed(oldest_first(old)), None))
        return {only.name: wanted} if only else {}
    if newest is not None and _saturated(deployment, newest):
        return {rs.name: 0 for rs in old if rs.spec.replicas}
    if not is_rolling(deployment):
        return {}
    return _share(deployment, running)


def _saturated(deployment: Deployment, newest: ReplicaSet) -> bool:
    wanted = deployment.spec.replicas
    return (
        newest.metadata.annotations.get(DESIRED_REPLICAS) == str(wanted)
        and newest.spec.replicas == wanted
        and newest.status.available_replicas == wanted
    )


def _share(deployment: Deployment, running: Sequence[ReplicaSet]) -> Sizes:
    """Proportional scaling: each set gets its share of the change, the largest what rounding leaves."""
    allowed = deployment.spec.replicas + fences(deployment)[0] if deployment.spec.replicas else 0
    change = allowed - total(running)
    newest_first = list(reversed(oldest_first(running)))
    order = sorted(newest_first if change > 0 else oldest_first(running), key=lambda rs: -rs.spec.replicas)
    sizes: dict[str, int] = {}
    given = 0
    for rs in order:
        share = _proportion(deployment, rs, allowed, change, given) if change else 0
        sizes[rs.name] = rs.spec.replicas + share
        given += share
    first = order[0].name
    sizes[first] = max(0, sizes[first] + change - given)
    return sizes


def _proportion(deployment: Deployment, rs: ReplicaSet, allowed: int, change: int, given: int) -> int:
    if not rs.spec.replicas or not deployment.spec.replicas:
        return -rs.spec.replicas
    noted = rs.metadata.annotations.get(MAX_REPLICAS, "")
    before = int(noted) if noted.isdecimal() and int(noted) else deployment.status.replicas or allowed
    share = math.floor(rs.spec.replicas * allowed / before + 0.5) - rs.spec.replicas
    left = change - given
    return min(share, left) if change > 0 else max(share, left)
