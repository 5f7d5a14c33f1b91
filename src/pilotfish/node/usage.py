"""What a proxy on demand uses: its Envoy is asked at intervals, and the control plane told, which withdraws the rest.

Envoy's own load reports count by endpoint, and forget what is in progress to an endpoint that is gone: a connection to
an address that DNS no longer tells, or to a pod that is not ready any more. Its statistics count by cluster, and until
the end. A report covers all since the last one that arrived, so that nothing is idle because a report was lost.
"""

from __future__ import annotations

import asyncio
import http.client
import logging
import random
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from pilotfish.api.demand import on_demand
from pilotfish.api.errors import ApiError
from pilotfish.node import netns
from pilotfish.node.bootstrap import ADMIN_PORT
from pilotfish.node.statistics import COUNTED

log = logging.getLogger(__name__)

FIRST_DELAY, RETRY_DELAY = 2.0, 5.0
TIMEOUT = 10.0

_LINE = re.compile(rf"cluster\.(.+);\.({'|'.join(COUNTED)}): (\d+)")
_QUERY = "/stats?filter=" + quote(rf"^cluster\..*\.({'|'.join(COUNTED)})$")


class Load(NamedTuple):
    """The requests of one cluster: connections, where it carries bytes."""

    in_progress: int
    begun: int


Node = Mapping[str, Any]
"""A proxy's `envoy.config.core.v3.Node` in its JSON form."""
Report = Callable[[Node, Mapping[str, Load]], Awaitable[float]]
"""Tells the control plane what a proxy has used since the report before, by the names of clusters in statistics. Gives
the seconds until the next report; 0: there need not be any. Raises ApiError.
"""


async def keep(directory: Path, namespace: Path, report: Report) -> None:
    """Report what the proxy in a network namespace uses, until cancelled or nobody asks any more.

    `directory` has the proxy's bootstrap (`bootstrap.render`) as envoy.json.
    """
    seen: Mapping[str, Load] = {}
    untold: Mapping[str, Load] = {}
    delay = FIRST_DELAY
    while True:
        await asyncio.sleep(delay * random.uniform(0.9, 1.0))
        try:
            node = await asyncio.to_thread(_node, directory)
            if not on_demand(node["metadata"]):
                return
            now = await asyncio.to_thread(netns.run_in, namespace, _ask)
        except (OSError, http.client.HTTPException) as error:
            log.debug("%s: what its proxy uses is not known now: %s", directory, error)
            delay = RETRY_DELAY
            continue
        untold, seen = added(untold, seen, now), now
        try:
            delay = await report(node, untold)
        except ApiError as error:
            log.info("what %s uses is told later: %s", node["id"], error)
            delay = RETRY_DELAY
            continue
        if not delay:
            return
        untold = {}


def read(text: str) -> dict[str, Load]:
    """What Envoy says of each cluster that was ever used: in progress, and begun since it started."""
    found: dict[str, dict[str, int]] = {}
    for name, counter, value in (match.groups() for match in map(_LINE.fullmatch, text.splitlines()) if match):
        found.setdefault(name, {})[counter] = int(value)
    active, total = COUNTED
    return {name: Load(values.get(active, 0), values.get(total, 0)) for name, values in found.items()}


def added(untold: Mapping[str, Load], before: Mapping[str, Load], now: Mapping[str, Load]) -> dict[str, Load]:
    """What was used in an interval that ends now, after what is yet to be told. A cluster that was made anew counts
    from nothing.
    """
    nothing = Load(0, 0)
    found = dict(untold)
    for name, load in now.items():
        known, told = before.get(name, nothing), untold.get(name, nothing)
        begun = load.begun - known.begun if load.begun >= known.begun else load.begun
        found[name] = Load(max(told.in_progress, load.in_progress), told.begun + begun)
    return found


def _node(directory: Path) -> Node:
    node: Node = msgspec.json.decode((directory / "envoy.json").read_bytes())["node"]
    return node


def _ask() -> dict[str, Load]:
    connection = http.client.HTTPConnection("127.0.0.1", ADMIN_PORT, timeout=TIMEOUT)
    try:
        connection.request("GET", _QUERY)
        return read(connection.getresponse().read().decode(errors="replace"))
    finally:
        connection.close()
