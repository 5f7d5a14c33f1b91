"""`pilotfish proxy-status POD`: what the control plane has for a proxy against what its Envoy has.

(istioctl/pkg/writer/compare)
"""

from __future__ import annotations

import datetime as dt
import difflib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from pilotfish.api.meta import parse_timestamp
from pilotfish.cli.connect import with_client
from pilotfish.cli.printing import as_json
from pilotfish.cli.proxyconfig.admin import find_proxy, split_name
from pilotfish.cli.proxyconfig.dump import ConfigDump, DumpError, Message
from pilotfish.cli.proxyconfig.jsonnames import camel_case
from pilotfish.cli.proxystatus import PAGES
from pilotfish.client.http import HTTPClient
from pilotfish.home import Home

CONTEXT_LINES = 7
_MESSAGES = {
    "cluster": "envoy.config.cluster.v3.Cluster",
    "listener": "envoy.config.listener.v3.Listener",
    "route_config": "envoy.config.route.v3.RouteConfiguration",
}
"""What an entry of a dump holds, by the name of its field."""


def show_difference(home: Home, pod: str, namespace: str | None, file: str, admin_port: int) -> None:
    """Print for clusters, listeners and routes whether they match, and where they do not. `file` replaces the Envoy.

    Raises click.ClickException.
    """

    async def ask(client: HTTPClient) -> tuple[bytes, bytes]:
        if file:
            short, where = split_name(pod, namespace or client.config.namespace)
            name, held = f"{short}.{where}", _read(file)
        else:
            admin = await find_proxy(client, pod, namespace, admin_port)
            name, held = admin.full_name, await admin.get("config_dump")
        return await client.request("GET", f"{PAGES}/config_dump", params={"proxyID": name}), held

    told, held = with_client(home, ask)
    try:
        for line in difference(ConfigDump.parse(told), ConfigDump.parse(held)):
            click.echo(line)
    except DumpError as error:
        raise click.ClickException(str(error)) from None


def difference(istiod: ConfigDump, envoy: ConfigDump) -> list[str]:
    """What to print: a line for each kind of configuration, followed by the differences if there are any."""
    lines: list[str] = []
    for title, section, field in (
        ("Clusters", "ClustersConfigDump", "dynamic_active_clusters"),
        ("Listeners", "ListenersConfigDump", "dynamic_listeners"),
        ("Routes", "RoutesConfigDump", "dynamic_route_configs"),
    ):
        told, held = (_text(dump.section(section).get(field, ())) for dump in (istiod, envoy))
        names = f"Istiod {title}", f"Envoy {title}"
        found = list(difflib.unified_diff(told, held, *names, n=CONTEXT_LINES, lineterm=""))
        loaded = _last_loaded(envoy) if title == "Routes" else ""
        lines.append(f"{title} Don't Match{loaded}" if found else f"{title} Match{loaded}")
        lines += found
    return lines


def _read(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise click.ClickException(f"cannot read {file}: {error.strerror}") from None


def _text(entries: Any) -> list[str]:
    """Entries of a section as lines to be compared: in the order of their names, without versions and times."""
    bodies = [_comparable(_body(entry)) for entry in entries]
    return as_json(sorted((body for body in bodies if body), key=lambda body: str(body.get("name", "")))).splitlines()


def _body(entry: Message) -> Message:
    """The cluster, listener or route configuration that is in force; nothing while there is none."""
    within = entry.get("active_state", entry)
    field = next((field for field in _MESSAGES if field in within), "")
    if not field:
        return {}
    body = {name: value for name, value in within[field].items() if name != "@type"}
    if "virtual_hosts" in body:
        body["virtual_hosts"] = sorted(body["virtual_hosts"], key=lambda host: str(host.get("name", "")))
    # The control plane cannot name fields that its messages do not have.
    known: Message = camel_case(body, _MESSAGES[field], known_only=True)
    return known


def _comparable(value: Any) -> Any:
    """JSON in which equal messages are equal: some writers put whole numbers of a float field as 1.0."""
    if isinstance(value, Mapping):
        return {key: _comparable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_comparable(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _last_loaded(envoy: ConfigDump) -> str:
    routes = envoy.section("RoutesConfigDump").get("dynamic_route_configs", ())
    times = [parse_timestamp(route["last_updated"]) for route in routes if "last_updated" in route]
    if not times:
        return ""
    latest: dt.datetime = max(times).astimezone()
    return f" (RDS last loaded at {latest:%a, %d %b %Y %H:%M:%S %Z})"
