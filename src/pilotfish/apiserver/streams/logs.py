"""`kubectl logs`: GET …/pods/{name}/log."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import httpx
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from pilotfish.api.errors import FieldError, Invalid, NotFound
from pilotfish.api.faults import invalid, unsupported
from pilotfish.api.meta import parse_timestamp
from pilotfish.apiserver import params
from pilotfish.apiserver.resources import Resources
from pilotfish.apiserver.streams.nodes import Nodes, Query
from pilotfish.apiserver.streams.target import Target, find_container, find_pod, node_address, why_no_log

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Logs:
    """The route handler."""

    resources: Resources
    nodes: Nodes

    async def get(self, request: Request) -> Response:
        pod = find_pod(self.resources, request.path_params["namespace"], request.path_params["name"])
        query = node_query(request, dt.datetime.now(dt.UTC))
        container = find_container(pod, params.query(request, "container"))
        target = Target(pod, container, node_address(self.resources, pod))
        # Opened before the answer begins, so that what goes wrong is told with its code.
        stack = AsyncExitStack()
        try:
            text = await stack.enter_async_context(
                self.nodes.download(target.node, target.path("containerLogs"), query)
            )
        except NotFound as error:
            raise why_no_log(pod, container, previous=params.flag(request, "previous")) from error
        return StreamingResponse(_pass_on(text, stack, target), media_type="text/plain")


async def _pass_on(text: AsyncIterator[bytes], stack: AsyncExitStack, target: Target) -> AsyncIterator[bytes]:
    """The text, as far as it comes: when the node goes away the log ends, as with Kubernetes."""
    async with stack:
        try:
            async for piece in text:
                yield piece
        except httpx.TransportError as error:
            log.info("the log of %s in %s/%s broke off: %s", target.container, *target.pod.key, error)


def node_query(request: Request, now: dt.datetime) -> Query:
    """What the node is asked. Raises Invalid in Kubernetes' words (core/v1 PodLogOptions)."""
    faults: list[FieldError] = []
    asked: list[tuple[str, str]] = [
        (name, "true") for name in ("follow", "timestamps", "previous") if params.flag(request, name)
    ]
    for name, least in (("tailLines", 0), ("limitBytes", 1)):
        if params.query(request, name):
            value = params.number(request, name)
            if value < least:
                wanted = "must be greater than or equal to 0" if least == 0 else "must be greater than 0"
                faults.append(invalid(name, value, wanted))
            asked.append((name, str(value)))
    since, seconds = params.query(request, "sinceTime"), params.query(request, "sinceSeconds")
    if since and seconds:
        faults.append(FieldError(path="", message="at most one of `sinceTime` or `sinceSeconds` may be specified"))
    elif seconds:
        count = params.number(request, "sinceSeconds")
        if count < 1:
            faults.append(invalid("sinceSeconds", count, "must be greater than 0"))
        else:
            asked.append(("sinceTime", (now - dt.timedelta(seconds=count)).isoformat()))
    elif since:
        try:
            asked.append(("sinceTime", parse_timestamp(since).isoformat()))
        except ValueError:
            faults.append(invalid("sinceTime", since, "it takes a time as RFC 3339 writes it"))
    stream = params.query(request, "stream") or "All"
    if stream not in ("All", "Stdout", "Stderr"):
        faults.append(unsupported("stream", stream, ("All", "Stdout", "Stderr")))
    asked.append(("stream", stream))
    if faults:
        raise Invalid.of("PodLogOptions", "", request.path_params["name"], faults)
    return asked
