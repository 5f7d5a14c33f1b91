"""Status conditions: set, removed and found without losing the others."""

from __future__ import annotations

import msgspec

from pilotfish.api.meta import Condition


def find(conditions: tuple[Condition, ...], type: str) -> Condition | None:
    return next((c for c in conditions if c.type == type), None)


def without(conditions: tuple[Condition, ...], type: str) -> tuple[Condition, ...]:
    return tuple(c for c in conditions if c.type != type)


def with_condition(
    conditions: tuple[Condition, ...],
    type: str,
    status: str,
    reason: str,
    message: str,
    now: str,
    *,
    touch: bool = False,
) -> tuple[Condition, ...]:
    """The conditions with one set; unchanged where status and reason hold already, unless `touch`.

    The transition time moves only when the status does (deployment/util: SetDeploymentCondition).
    """
    current = find(conditions, type)
    if current is not None and (current.status, current.reason) == (status, reason) and not touch:
        return conditions
    since = current.last_transition_time if current is not None and current.status == status else now
    fresh = Condition(
        type=type, status=status, reason=reason, message=message, last_transition_time=since, last_update_time=now
    )
    if current is None:
        return (*conditions, fresh)
    return tuple(fresh if c.type == type else c for c in conditions)


def document(conditions: tuple[Condition, ...]) -> object:
    return msgspec.to_builtins(conditions)
