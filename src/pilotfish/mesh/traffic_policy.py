"""What a DestinationRule says of one port and subset, put together as Istio does it.

Istio: GetPortLevelTrafficPolicy, MergeSubsetTrafficPolicy, applyDefaultTrafficPolicy.
"""

from __future__ import annotations

import msgspec

from pilotfish.api.networking.destination_rule import TrafficPolicy
from pilotfish.mesh.default_policy import NOTHING_SAID, DefaultTrafficPolicy
from pilotfish.mesh.policies import Rule

_NO_POLICY = TrafficPolicy()


def traffic_policy(
    rule: Rule | None, port: int, subset: str = "", default: DefaultTrafficPolicy = NOTHING_SAID
) -> TrafficPolicy:
    """The policy of a host's port, or of that of a subset; without settings of single ports in it.

    A subset's settings take the place of the rule's, each as a whole. Settings of a port take the place of everything
    that is said of the host, or of the subset, and can be had of both; what they leave out is as if nobody said it.
    """
    said = rule.traffic_policy if rule is not None else None
    policy, _ = _of_port(said or _NO_POLICY, port)
    policy = msgspec.structs.replace(
        policy,
        connection_pool=policy.connection_pool or default.connection_pool,
        outlier_detection=policy.outlier_detection or default.outlier_detection,
    )
    found = rule.subset(subset) if rule is not None and subset else None
    if found is None or found.traffic_policy is None:
        return policy
    own, of_port = _of_port(found.traffic_policy, port)
    of_both = {"connection_pool", "outlier_detection", "load_balancer", "tls"}
    fields = (field.name for field in msgspec.structs.fields(TrafficPolicy))
    said_by_subset = {
        name: getattr(own, name) for name in fields if getattr(own, name) is not None or (of_port and name in of_both)
    }
    return msgspec.structs.replace(policy, **{**said_by_subset, "port_level_settings": ()})


def _of_port(policy: TrafficPolicy, port: int) -> tuple[TrafficPolicy, bool]:
    """The policy for a port, and whether it is the port's own."""
    for own in policy.port_level_settings:
        if own.port is not None and own.port.number == port:
            whole = TrafficPolicy(
                load_balancer=own.load_balancer,
                connection_pool=own.connection_pool,
                outlier_detection=own.outlier_detection,
                tls=own.tls,
            )
            return whole, True
    return msgspec.structs.replace(policy, port_level_settings=()), False
