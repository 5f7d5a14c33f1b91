"""When requests are tried again, and where."""

from __future__ import annotations

from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
from envoy.extensions.retry.priority.previous_priorities.v3 import previous_priorities_config_pb2

from pilotfish.mesh.records import Record
from pilotfish.xds.build import common

RETRY_ON = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
"""When Istio has requests tried again by default."""


class Retries(Record):
    """`attempts` after the first; times in seconds, 0 for Envoy's own."""

    attempts: int = 2
    conditions: str = RETRY_ON
    codes: tuple[int, ...] = ()
    try_timeout: float = 0.0
    other_hosts: bool = True
    other_localities: bool = False
    back_off: float = 0.0


BY_DEFAULT = Retries()
"""What Istio does where nobody says anything."""


def try_again(policy: route_components_pb2.RetryPolicy, spec: Retries) -> None:
    """Have a route do so."""
    policy.retry_on = spec.conditions
    policy.num_retries.value = spec.attempts
    policy.retriable_status_codes.extend(spec.codes)
    policy.host_selection_retry_max_attempts = 5
    if spec.other_hosts:
        other = policy.retry_host_predicate.add(name="envoy.retry_host_predicates.previous_hosts")
        other.typed_config.CopyFrom(common.any_of(previous_hosts_pb2.PreviousHostsPredicate()))
    if spec.other_localities:
        policy.retry_priority.name = "envoy.retry_priorities.previous_priorities"
        each_time = previous_priorities_config_pb2.PreviousPrioritiesConfig(update_frequency=2)
        policy.retry_priority.typed_config.CopyFrom(common.any_of(each_time))
    if spec.try_timeout:
        policy.per_try_timeout.CopyFrom(common.duration(spec.try_timeout))
    if spec.back_off:
        policy.retry_back_off.base_interval.CopyFrom(common.duration(spec.back_off))
