"""What each object says by itself: what is not valid or not meant in it, what is deprecated, what its status tells."""

from __future__ import annotations

from collections.abc import Iterator

from pilotfish.analysis import messages
from pilotfish.analysis.messages import Message, path_of
from pilotfish.analysis.snapshot import Snapshot
from pilotfish.api.istio_validation.unreachable import unreachable, unused
from pilotfish.api.kinds import SIDECAR, VIRTUAL_SERVICE
from pilotfish.api.networking import VirtualService

_NEGATIVE = frozenset(
    {
        "pilotfish.dev/Accepted",
        "pilotfish.dev/Applied",
        "pilotfish.dev/Honoured",
        "pilotfish.dev/Served",
        "istio.io/WaypointBound",
    }
)
"""Conditions that say that something is wrong when they are False."""


def validation(snapshot: Snapshot) -> Iterator[Message]:
    """What Istio refuses in its own kinds, and what it warns of."""
    for kind, obj in snapshot.every():
        if not kind.strict:
            continue
        for fault in kind.validate(obj):
            yield messages.SCHEMA_VALIDATION_ERROR.about(obj, fault, at=path_of(fault))
        rules = set(unreachable(obj.spec)) if isinstance(obj, VirtualService) else set()
        for warning in kind.warn(obj):
            if warning not in rules:
                yield messages.SCHEMA_WARNING.about(obj, warning, at=path_of(warning))


def rules(snapshot: Snapshot) -> Iterator[Message]:
    """Routes and matches of VirtualServices that no request reaches."""
    for obj in snapshot.of(VIRTUAL_SERVICE):
        for found in unused(obj.spec):
            steps = found.path.removeprefix("spec.").partition("[")[0]
            if found.match is None:
                about: tuple[str, ...] = (f"{steps}[{found.number}]", found.reason)
                yield messages.UNREACHABLE_RULE.about(obj, *about, at=("spec", steps, found.number))
            else:
                at = ("spec", steps, found.number, "match", found.match)
                about = (f"{steps}[{found.number}]", str(found.match), found.by.removeprefix("spec."))
                yield messages.INEFFECTIVE_MATCH.about(obj, *about, at=at)


def deprecated_fields(snapshot: Snapshot) -> Iterator[Message]:
    """Fields that Istio has replaced, or heeds no more."""
    for obj in snapshot.of(VIRTUAL_SERVICE):
        for position, http in enumerate(obj.spec.http):
            if http.fault is not None and http.fault.delay is not None and http.fault.delay.percent > 0:
                text = "HTTPRoute.fault.delay.percent is deprecated; use HTTPRoute.fault.delay.percentage"
                yield messages.DEPRECATED.about(obj, text, at=("spec", "http", position, "fault", "delay", "percent"))
    for sidecar in snapshot.of(SIDECAR):
        policy = sidecar.spec.outbound_traffic_policy
        if policy is not None and policy.egress_proxy is not None:
            at = ("spec", "outboundTrafficPolicy", "egressProxy")
            yield messages.DEPRECATED.about(sidecar, "outboundTrafficPolicy.egressProxy is ignored", at=at)


def conditions(snapshot: Snapshot) -> Iterator[Message]:
    """Objects of whose status a condition says that a proxy refuses them, that a gateway cannot serve a part of
    them, or that a part has no effect.
    """
    for _, obj in snapshot.every():
        status = getattr(obj, "status", None)
        for condition in getattr(status, "conditions", ()):
            if condition.type in _NEGATIVE and condition.status == "False":
                yield messages.NEGATIVE_CONDITION.about(obj, condition.type, condition.reason, condition.message)
