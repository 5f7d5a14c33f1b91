"""What controllers ask of a pod."""

from __future__ import annotations

import datetime as dt

from pilotfish.api.meta import parse_timestamp
from pilotfish.api.pods import Pod
from pilotfish.controllers.conditions import find

ENDED = ("Succeeded", "Failed")


def active(pod: Pod) -> bool:
    """Whether the pod runs or is to run: neither ended nor being deleted."""
    return pod.status.phase not in ENDED and pod.metadata.deletion_timestamp is None


def ready_since(pod: Pod) -> dt.datetime | None:
    """Since when the pod has been ready; None while it is not."""
    condition = find(pod.status.conditions, "Ready")
    if condition is None or condition.status != "True" or not condition.last_transition_time:
        return None
    return parse_timestamp(condition.last_transition_time)


def available_in(pod: Pod, min_ready_seconds: int, now: dt.datetime) -> float | None:
    """Seconds until the pod counts as available (0 when it does); None while it is not ready."""
    if not pod.ready:
        return None
    since = ready_since(pod)
    if not min_ready_seconds or since is None:
        return 0.0
    return max(0.0, (since + dt.timedelta(seconds=min_ready_seconds) - now).total_seconds())
