"""`pilotfish logs`: what a container wrote, once or as it comes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass

import click

from pilotfish.api.errors import ApiError
from pilotfish.api.kinds import POD
from pilotfish.api.pods import Pod
from pilotfish.cli.connect import with_client
from pilotfish.cli.objects import complain
from pilotfish.cli.pods import default_container, find_pod
from pilotfish.client.http import HTTPClient
from pilotfish.client.paths import path_of
from pilotfish.home import Home

TAIL_OF_MANY = 10
"""Lines of each pod that a selector shows unless more are asked for, as with kubectl."""


@dataclass(frozen=True)
class What:
    """Which part of a log. `since` is in seconds; `tail` counts lines, -1 is all of them, None what is usual."""

    container: str = ""
    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    tail: int | None = None
    since: float | None = None


def logs(home: Home, name: str, labels: str, namespace: str | None, what: What) -> int:
    """Print the log of the pod that is named, or of all that a selector finds; returns the exit status."""
    if bool(name) == bool(labels):
        raise click.UsageError("say whose: POD, KIND/NAME such as deploy/web, or -l SELECTOR.")

    async def run(client: HTTPClient) -> int:
        place = namespace or client.config.namespace
        if name:
            pod = await find_pod(client, name, place)
            return await _show_all(client, [pod], what)
        pods = (await client.list(POD, place, labels=labels)).items
        if not pods:
            click.echo(f"No resources found in {place} namespace.", err=True)
        return await _show_all(client, pods, what)

    return with_client(home, run)


async def _show_all(client: HTTPClient, pods: Sequence[Pod], what: What) -> int:
    """One after the other, or all at once as their lines come; one that has no log does not hide the others."""
    streams = [(pod, _query(what, default_container(pod, what.container), many=len(pods) > 1)) for pod in pods]
    if not what.follow or len(pods) == 1:
        shown = [await _show(client, pod, query) for pod, query in streams]
        return 0 if all(shown) else 1
    unread: BrokenPipeError | None = None
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_show(client, pod, query)) for pod, query in streams]
    except* BrokenPipeError as errors:
        unread = BrokenPipeError(*errors.exceptions[0].args)
    if unread is not None:  # one like any other command's, not a group of them
        raise unread
    return 0 if all(task.result() for task in tasks) else 1


async def _show(client: HTTPClient, pod: Pod, query: dict[str, str]) -> bool:
    """Print one log. Whether it could be had; if not, the user has been told why."""
    try:
        async for line in client.stream_lines(path_of(POD, pod.namespace, pod.name, "log"), query):
            click.echo(line)
    except ApiError as error:
        complain(error, f"pod {pod.name}")
        return False
    return True


def _query(what: What, container: str, *, many: bool) -> dict[str, str]:
    """What the API is asked (core/v1: PodLogOptions)."""
    query = {"container": container} if container else {}
    flags = {"follow": what.follow, "previous": what.previous, "timestamps": what.timestamps}
    query.update({name: "true" for name, wanted in flags.items() if wanted})
    tail = what.tail if what.tail is not None else TAIL_OF_MANY if many else -1
    if tail >= 0:
        query["tailLines"] = str(tail)
    if what.since is not None:
        query["sinceSeconds"] = str(max(1, math.ceil(what.since)))
    return query
