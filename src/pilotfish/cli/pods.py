"""From what a user names to pods: a pod, or one of those that a workload or Service selects."""

from __future__ import annotations

from collections.abc import Mapping

import click

from pilotfish.api.apps import Deployment, ReplicaSet
from pilotfish.api.core import Service
from pilotfish.api.kinds import POD
from pilotfish.api.meta import LabelSelector, Object
from pilotfish.api.pods import Pod
from pilotfish.cli.objects import wanted
from pilotfish.client.http import HTTPClient

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


async def find_pod(client: HTTPClient, name: str, namespace: str) -> Pod:
    """The pod that NAME or KIND/NAME means; of a workload's, the one that serves longest, which is then said.

    Raises click.ClickException where a workload has none, and ApiError.
    """
    if "/" not in name:
        return await client.get(POD, name, namespace)
    [of] = wanted([name])
    if of.kind is POD:
        return await client.get(POD, of.names[0], namespace)
    selector = selector_of(await client.get(of.kind, of.names[0], namespace))
    if selector is None:
        raise click.UsageError(f"{name} has no pods: name a pod, or a deployment, replicaset or service.")
    pods = sorted((await client.list(POD, namespace, labels=selector)).items, key=_preference)
    if not pods:
        raise click.ClickException(
            f"{name} has no pods at present: `pilotfish describe {name} -n {namespace}` may say why"
        )
    if len(pods) > 1:
        click.echo(f"Found {len(pods)} pods, using pod/{pods[0].name}", err=True)
    return pods[0]


def default_container(pod: Pod, asked: str) -> str:
    """The container that is meant: the one asked for, the one that an annotation names, or the first, which is said."""
    names = [container.name for container in pod.spec.containers]
    if asked or not names:
        return asked
    annotated = pod.metadata.annotations.get(DEFAULT_CONTAINER, "")
    if annotated in names:
        return annotated
    if len(names) > 1:
        click.echo(f'Defaulted container "{names[0]}" out of: {", ".join(names)}', err=True)
    return names[0]


def selector_of(obj: Object) -> str | None:
    """The label selector of the pods that belong to an object, as text; None where it has none."""
    match obj:
        case Deployment() | ReplicaSet():
            return _text(obj.spec.selector)
        case Service() if obj.spec.selector:
            return _equalities(obj.spec.selector)
    return None


def _text(selector: LabelSelector) -> str:
    parts = [_equalities(selector.match_labels)] if selector.match_labels else []
    for requirement in selector.match_expressions:
        match requirement.operator:
            case "Exists":
                parts.append(requirement.key)
            case "DoesNotExist":
                parts.append(f"!{requirement.key}")
            case operator:
                parts.append(f"{requirement.key} {operator.lower()} ({','.join(requirement.values)})")
    return ",".join(parts)


def _equalities(labels: Mapping[str, str]) -> str:
    return ",".join(f"{key}={value}" for key, value in labels.items())


def _preference(pod: Pod) -> tuple[bool, bool, str]:
    """Living pods before those that are being deleted, ready ones before others, old before young."""
    return pod.metadata.deletion_timestamp is not None, not pod.ready, pod.metadata.creation_timestamp or ""
