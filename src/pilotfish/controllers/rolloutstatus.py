"""A Deployment's status: counts, and the conditions that `kubectl rollout status` reads (deployment/progress.go)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import msgspec

from pilotfish.api.apps import Deployment, DeploymentStatus, ReplicaSet
from pilotfish.api.meta import Condition, parse_timestamp, timestamp
from pilotfish.controllers.conditions import find, with_condition, without
from pilotfish.controllers.scaling import fences, total

PROGRESSING, AVAILABLE, FAILURE = "Progressing", "Available", "ReplicaFailure"
DONE, TIMED_OUT, PAUSED = "NewReplicaSetAvailable", "ProgressDeadlineExceeded", "DeploymentPaused"


def counted(
    deployment: Deployment,
    conditions: tuple[Condition, ...],
    newest: ReplicaSet | None,
    sets: Sequence[ReplicaSet],
    now: str,
) -> DeploymentStatus:
    """The status as the ReplicaSets say, with `conditions` and Available among them."""
    available = sum(rs.status.available_replicas for rs in sets)
    if available >= deployment.spec.replicas - fences(deployment)[1]:
        told = ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    else:
        told = ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    return msgspec.structs.replace(
        deployment.status,
        observed_generation=deployment.metadata.generation,
        replicas=sum(rs.status.replicas for rs in sets),
        updated_replicas=newest.status.replicas if newest else 0,
        ready_replicas=sum(rs.status.ready_replicas for rs in sets),
        available_replicas=available,
        unavailable_replicas=max(0, total(sets) - available),
        conditions=with_condition(conditions, AVAILABLE, *told, now),
    )


def complete(deployment: Deployment, status: DeploymentStatus) -> bool:
    """Whether all pods are of the newest template and available, and no other is left."""
    wanted = deployment.spec.replicas
    return (status.updated_replicas, status.replicas, status.available_replicas) == (
        wanted,
        wanted,
        wanted,
    ) and status.observed_generation >= deployment.metadata.generation


def _moved(new: DeploymentStatus, old: DeploymentStatus) -> bool:
    return (
        new.updated_replicas > old.updated_replicas
        or new.replicas - new.updated_replicas < old.replicas - old.updated_replicas
        or new.ready_replicas > old.ready_replicas
        or new.available_replicas > old.available_replicas
    )


def deadline(deployment: Deployment, conditions: tuple[Condition, ...], now: dt.datetime) -> float | None:
    """Seconds until the rollout counts as stuck (0 when it does); None when it cannot."""
    limit, current = deployment.spec.progress_deadline_seconds, find(conditions, PROGRESSING)
    if limit is None or current is None or current.reason in (DONE, PAUSED) or not current.last_update_time:
        return None
    if current.reason == TIMED_OUT:
        return 0.0
    passed = (now - parse_timestamp(current.last_update_time)).total_seconds()
    return max(0.0, limit - passed)


def progressed(
    deployment: Deployment,
    status: DeploymentStatus,
    newest: ReplicaSet | None,
    sets: Sequence[ReplicaSet],
    now: dt.datetime,
) -> DeploymentStatus:
    """The status with the conditions Progressing and ReplicaFailure brought up to date (syncRolloutStatus)."""
    conditions = status.conditions
    current = find(conditions, PROGRESSING)
    moment = timestamp(now)
    name = f'ReplicaSet "{newest.name}"' if newest else f'Deployment "{deployment.name}"'
    finished = current is not None and current.reason == DONE and status.replicas == status.updated_replicas
    if deployment.spec.progress_deadline_seconds is None:
        conditions = without(conditions, PROGRESSING)
    elif not finished:
        if complete(deployment, status):
            told = ("True", DONE, f"{name} has successfully progressed.")
            conditions = with_condition(conditions, PROGRESSING, *told, moment)
        elif _moved(status, deployment.status):
            told = ("True", "ReplicaSetUpdated", f"{name} is progressing.")
            conditions = with_condition(conditions, PROGRESSING, *told, moment, touch=True)
        elif deadline(deployment, conditions, now) == 0:
            told = ("False", TIMED_OUT, f"{name} has timed out progressing.")
            conditions = with_condition(conditions, PROGRESSING, *told, moment)
    failures = [f for f in (find(rs.status.conditions, FAILURE) for rs in sets) if f is not None]
    if failures:
        told = (failures[0].status, failures[0].reason, failures[0].message)
        conditions = with_condition(conditions, FAILURE, *told, moment)
    else:
        conditions = without(conditions, FAILURE)
    return msgspec.structs.replace(status, conditions=conditions)


def paused_or_resumed(deployment: Deployment, conditions: tuple[Condition, ...], now: str) -> tuple[Condition, ...]:
    """The condition Progressing at the moment when a rollout is paused or goes on (checkPausedConditions)."""
    current = find(conditions, PROGRESSING)
    if deployment.spec.progress_deadline_seconds is None or (current is not None and current.reason == TIMED_OUT):
        return conditions
    is_paused = current is not None and current.reason == PAUSED
    if deployment.spec.paused and not is_paused:
        return with_condition(conditions, PROGRESSING, "Unknown", PAUSED, "Deployment is paused", now)
    if not deployment.spec.paused and is_paused:
        return with_condition(conditions, PROGRESSING, "Unknown", "DeploymentResumed", "Deployment is resumed", now)
    return conditions


def created(deployment: Deployment, name: str, conditions: tuple[Condition, ...], now: str) -> tuple[Condition, ...]:
    """The conditions once the newest ReplicaSet was made."""
    if deployment.spec.progress_deadline_seconds is None:
        return conditions
    told = ("True", "NewReplicaSetCreated", f'Created new replica set "{name}"')
    return with_condition(conditions, PROGRESSING, *told, now)


def found(deployment: Deployment, name: str, conditions: tuple[Condition, ...], now: str) -> tuple[Condition, ...]:
    """The conditions where the newest ReplicaSet was there already, as after adoption."""
    if deployment.spec.progress_deadline_seconds is None or find(conditions, PROGRESSING) is not None:
        return conditions
    told = ("True", "FoundNewReplicaSet", f'Found new replica set "{name}"')
    return with_condition(conditions, PROGRESSING, *told, now)


def failed(deployment: Deployment, name: str, error: str) -> DeploymentStatus:
    """The status where the newest ReplicaSet could not be made."""
    status = deployment.status
    if deployment.spec.progress_deadline_seconds is None:
        return status
    told = ("False", "ReplicaSetCreateError", f'Failed to create new replica set "{name}": {error}')
    conditions = with_condition(status.conditions, PROGRESSING, *told, timestamp())
    return msgspec.structs.replace(status, conditions=conditions)
