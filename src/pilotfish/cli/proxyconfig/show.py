"""What the commands of `proxy-config` print: from an Envoy's admin interface or a file, through filters, to a text."""

from __future__ import annotations

import contextlib
import datetime as dt
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

from pilotfish.cli.connect import with_client
from pilotfish.cli.printing import as_json, as_yaml
from pilotfish.cli.proxyconfig import bootstrap, clusters, endpoints, listeners, rootca, routes, secrets
from pilotfish.cli.proxyconfig.admin import Admin, find_proxy
from pilotfish.cli.proxyconfig.dump import ConfigDump, DumpError, Message
from pilotfish.cli.proxyconfig.jsonnames import camel_case
from pilotfish.cli.tables import Row, render_padded
from pilotfish.client.http import HTTPClient
from pilotfish.home import Home

Output = Literal["short", "json", "yaml"]

PADDING = 5
_EDS = "?include_eds=true"
_MASKS = {
    "clusters": "?mask=dynamic_active_clusters,static_clusters",
    "listeners": "?mask=dynamic_listeners,static_listeners",
    "routes": "?mask=dynamic_route_configs,static_route_configs",
    "secrets": "?mask=dynamic_active_secrets,dynamic_warming_secrets",
    "bootstrap": "?mask=bootstrap",
}


@dataclass(frozen=True)
class Source:
    """Where a dump comes from: a pod's proxy, or a file ("-" is standard input)."""

    pod: str = ""
    file: str = ""
    namespace: str | None = None
    admin_port: int = 0


@dataclass(frozen=True)
class Filters:
    """All that `proxy-config all` takes."""

    clusters: clusters.ClusterFilter
    listeners: listeners.ListenerFilter
    routes: routes.RouteFilter
    endpoints: endpoints.EndpointFilter


def show_clusters(home: Home, source: Source, wanted: clusters.ClusterFilter, output: Output) -> str:
    with _reported():
        found = clusters.select(_dump(home, source, _MASKS["clusters"]).clusters(), wanted)
        if output != "short":
            return _printed(found, "envoy.config.cluster.v3.Cluster", output)
        return _table(clusters.table(found))


def show_listeners(
    home: Home, source: Source, wanted: listeners.ListenerFilter, output: Output, *, verbose: bool
) -> str:
    with _reported():
        found = listeners.select(_dump(home, source, _MASKS["listeners"]).listeners(), wanted)
        if output != "short":
            return _printed(found, "envoy.config.listener.v3.Listener", output)
        return _table(listeners.table(found, verbose=verbose), listeners.PADDING)


def show_routes(home: Home, source: Source, wanted: routes.RouteFilter, output: Output, *, verbose: bool) -> str:
    with _reported():
        found = routes.select(_dump(home, source, _MASKS["routes"]).routes(), wanted)
        if output != "short":
            return _printed(found, "envoy.config.route.v3.RouteConfiguration", output)
        return _table(routes.table(found, verbose=verbose))


def show_endpoints(home: Home, source: Source, wanted: endpoints.EndpointFilter, output: Output) -> str:
    with _reported():
        found = endpoints.select(endpoints.parse_clusters(read(home, source, "clusters?format=json")), wanted)
        if output != "short":
            return _printed(found, "envoy.admin.v3.ClusterStatus", output)
        return _table(endpoints.table(found, wanted))


def show_assigned(home: Home, source: Source, wanted: endpoints.EndpointFilter, output: Output) -> str:
    with _reported():
        found = endpoints.select_assigned(_dump(home, source, _EDS).endpoints(), wanted)
        if output != "short":
            return _printed(found, "envoy.config.endpoint.v3.ClusterLoadAssignment", output)
        return _table(endpoints.assigned_table(found))


def show_secrets(home: Home, source: Source, output: Output) -> str:
    with _reported():
        dump = _dump(home, source, _MASKS["secrets"])
        if output != "short":
            return _printed(dump.section("SecretsConfigDump"), "envoy.admin.v3.SecretsConfigDump", output)
        return _secret_table(dump)


def compare_roots(home: Home, pods: tuple[str, str], namespace: str | None, admin_port: int) -> str:
    """Whether two proxies trust a root in common. Raises click.ClickException where they do not."""

    async def ask(client: HTTPClient) -> list[tuple[str, bytes]]:
        found = [await find_proxy(client, pod, namespace, admin_port) for pod in pods]
        return [(admin.full_name, await admin.get(f"config_dump{_MASKS['secrets']}")) for admin in found]

    (one, of_one), (other, of_other) = with_client(home, ask)
    with _reported():
        common = bool(rootca.roots(ConfigDump.parse(of_one)) & rootca.roots(ConfigDump.parse(of_other)))
    verdict = rootca.comparison(one, other, common=common)
    if not common:
        raise click.ClickException(verdict)
    return verdict


def show_bootstrap(home: Home, source: Source, output: Output) -> str:
    with _reported():
        section = _dump(home, source, _MASKS["bootstrap"]).section("BootstrapConfigDump")
        if output != "short":
            return _printed(section, "envoy.admin.v3.BootstrapConfigDump", output)
        return _table(bootstrap.summary(section), bootstrap.PADDING)


def show_extensions(home: Home, source: Source, output: Output) -> str:
    with _reported():
        dump = _dump(home, source, _EDS)
        if output != "short":
            return _printed(dump.section("EcdsConfigDump"), "envoy.admin.v3.EcdsConfigDump", output)
        return _table(bootstrap.extension_table(dump.extensions()))


def show_all(
    home: Home, source: Source, wanted: Filters, output: Output, *, verbose: bool, with_headers: bool = False
) -> str:
    """Every section; as JSON or YAML the dump as Envoy wrote it."""
    text = read(home, source, f"config_dump{_EDS}")
    with _reported():
        dump = ConfigDump.parse(text)
        if output != "short":
            whole = {"configs": list(dump.sections.values())}
            return as_json(whole) if output == "json" else as_yaml(whole).rstrip()
        found_clusters = clusters.select(dump.clusters(), wanted.clusters)
        found_listeners = listeners.select(dump.listeners(), wanted.listeners)
        found_routes = routes.select(dump.routes(), wanted.routes)
        found_endpoints = endpoints.select_assigned(dump.endpoints(), wanted.endpoints)
        tables: list[tuple[str, str]] = [
            (
                "BOOTSTRAP INFO",
                _table(bootstrap.summary(dump.section("BootstrapConfigDump")), bootstrap.PADDING),
            ),
            ("CLUSTER INFO", _table(clusters.table(found_clusters, named=True))),
            ("LISTENER INFO", _table(listeners.table(found_listeners, verbose=verbose, named=True), listeners.PADDING)),
            ("ROUTE INFO", _table(routes.table(found_routes, verbose=verbose, named=True))),
            ("SECRET INFO", _secret_table(dump, named=True)),
            ("ENDPOINTS INFO", _table(endpoints.assigned_table(found_endpoints, named=True))),
        ]
    return "\n\n".join(f"------ {title} ------\n\n{table}" if with_headers else table for title, table in tables)


def read(home: Home, source: Source, path: str) -> bytes:
    """The file, or the proxy's answer to a path of its admin interface. Raises click.ClickException."""
    if bool(source.pod) == bool(source.file):
        raise click.UsageError("say whose configuration: POD[.NAMESPACE], KIND/NAME[.NAMESPACE], or --file FILE.")
    if source.file:
        try:
            return sys.stdin.buffer.read() if source.file == "-" else Path(source.file).read_bytes()
        except OSError as error:
            raise click.ClickException(f"cannot read {source.file}: {error.strerror}") from None

    async def ask(client: HTTPClient) -> bytes:
        admin: Admin = await find_proxy(client, source.pod, source.namespace, source.admin_port)
        return await admin.get(path)

    return with_client(home, ask)


def _dump(home: Home, source: Source, query: str) -> ConfigDump:
    return ConfigDump.parse(read(home, source, f"config_dump{query}"))


def _table(rows: Sequence[Row], padding: int = PADDING) -> str:
    return render_padded(rows, padding)


def _secret_table(dump: ConfigDump, *, named: bool = False) -> str:
    found = secrets.secrets(dump)
    return _table(secrets.table(found, dt.datetime.now(dt.UTC), named=named)) if found else secrets.NOTHING


def _printed(value: Message | Sequence[Message], message: str, output: Output) -> str:
    """What is of one known type does not say it again, as with istioctl."""
    document: Any = camel_case(_untyped(value), message)
    return as_json(document) if output == "json" else as_yaml(document).rstrip()


def _untyped(value: Message | Sequence[Message]) -> Any:
    if isinstance(value, Mapping):
        return {key: item for key, item in value.items() if key != "@type"}
    return [_untyped(one) for one in value]


@contextlib.contextmanager
def _reported() -> Iterator[None]:
    """What is wrong with a dump is told as the error of the command."""
    try:
        yield
    except DumpError as error:
        raise click.ClickException(str(error)) from None
