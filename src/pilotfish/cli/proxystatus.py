"""`pilotfish proxy-status`: which proxies are connected, and whether they have what there is for them.

(istioctl/pkg/writer/pilot: status.go)
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import click

from pilotfish.api.scheme import age
from pilotfish.cli.connect import with_client
from pilotfish.cli.printing import as_json, as_yaml
from pilotfish.cli.tables import Row, render_padded
from pilotfish.client.http import HTTPClient
from pilotfish.home import Home

PAGES: Final = "/api/v1/namespaces/istio-system/services/istiod:15014/proxy/debug"
"""The control plane's debug pages, as any Kubernetes passes them on."""
CONTROL_PLANE = "istiod"
PADDING = 5

_PREFIX = "type.googleapis.com/"
_SHORT_TYPES = {
    f"{_PREFIX}envoy.config.cluster.v3.Cluster": "CDS",
    f"{_PREFIX}envoy.config.listener.v3.Listener": "LDS",
    f"{_PREFIX}envoy.config.endpoint.v3.ClusterLoadAssignment": "EDS",
    f"{_PREFIX}envoy.config.route.v3.RouteConfiguration": "RDS",
    f"{_PREFIX}envoy.config.core.v3.TypedExtensionConfig": "ECDS",
    f"{_PREFIX}envoy.extensions.transport_sockets.tls.v3.Secret": "SDS",
    f"{_PREFIX}istio.networking.nds.v1.NameTable": "NDS",
}
"""Types by what they are called for short; those before SDS are always columns of the wide table."""
_COLUMNS = tuple(_SHORT_TYPES)[:5]
_NO_PROXY = "dns"
"""The type of a client that is no proxy: a node's DNS process."""

Status = Literal["SYNCED", "STALE", "NOT_SENT", "ERROR"]
Output = Literal["table", "json", "yaml"]


@dataclass(frozen=True)
class Proxy:
    """One proxy, as `/debug/syncz` tells of it."""

    name: str
    cluster: str
    version: str
    types: Mapping[str, Mapping[str, Any]]

    @property
    def namespace(self) -> str:
        return self.name.rpartition(".")[2]


def proxy_status(home: Home, namespace: str | None, output: Output, *, verbose: bool) -> None:
    """Print the state of all proxies, or of those of a namespace."""

    async def ask(client: HTTPClient) -> list[Proxy]:
        return proxies(await client.request_json("GET", f"{PAGES}/syncz"))

    found = [proxy for proxy in with_client(home, ask) if namespace in (None, proxy.namespace)]
    if output == "table":
        click.echo(render_padded(verbose_table(found) if verbose else table(found), PADDING))
    else:
        document = as_response(found)
        click.echo(as_json(document) if output == "json" else as_yaml(document).rstrip())


def proxies(answer: Iterable[Mapping[str, Any]]) -> list[Proxy]:
    """The proxies of an answer of `/debug/syncz`, by name."""
    found = (
        Proxy(one.get("proxy", ""), one.get("cluster_id", ""), one.get("istio_version", ""), one.get("resources", {}))
        for one in answer
        if one.get("proxy_type") != _NO_PROXY
    )
    return sorted(found, key=lambda proxy: proxy.name)


def state_of(resource: Mapping[str, Any]) -> Status:
    """Whether a proxy has what it was sent of one type (Istio: debugSyncStatus)."""
    if resource.get("lastError"):
        return "ERROR"
    if not resource.get("sent"):
        return "NOT_SENT"
    return "SYNCED" if resource["sent"] == resource.get("acked") else "STALE"


def table(found: Iterable[Proxy]) -> list[Row]:
    rows = [["NAME", "CLUSTER", "ISTIOD", "VERSION", "SUBSCRIBED TYPES"]]
    for proxy in found:
        types = [short_type(one) for one in sorted(proxy.types, key=_order)]
        subscribed = f"{len(types)} ({','.join(types)})" if types else "0"
        rows.append([proxy.name, proxy.cluster, CONTROL_PLANE, proxy.version, subscribed])
    return rows


def verbose_table(found: Iterable[Proxy]) -> list[Row]:
    """A column for each type, with its state and since when it is so."""
    listed = list(found)
    types = sorted({*_COLUMNS, *(one for proxy in listed for one in proxy.types)})
    rows = [["NAME", "CLUSTER", *map(short_type, types), "ISTIOD", "VERSION"]]
    for proxy in listed:
        states = [_state_text(proxy.types.get(one)) for one in types]
        rows.append([proxy.name, proxy.cluster, *states, CONTROL_PLANE, proxy.version])
    return rows


def _state_text(resource: Mapping[str, Any] | None) -> str:
    if resource is None:
        return "IGNORED"
    state = state_of(resource)
    if state == "NOT_SENT":
        return "NOT SENT"
    return f"{state} ({age(resource['sentTime'])})" if resource.get("sentTime") else state


def short_type(type_url: str) -> str:
    """E.g. "CDS"; of a type without a short name all of it."""
    return _SHORT_TYPES.get(type_url, type_url)


def _order(type_url: str) -> tuple[int, str]:
    """The types that everybody knows first, as istioctl has them."""
    known = _COLUMNS[:4]
    return known.index(type_url) if type_url in known else len(known), type_url


def as_response(found: Iterable[Proxy]) -> dict[str, Any]:
    """The discovery response that istioctl prints: a `ClientConfig` for each proxy."""
    return {
        "controlPlane": {"identifier": f'{{"Component":"istiod","ID":"{CONTROL_PLANE}"}}'},
        "resources": [_client_config(proxy) for proxy in found],
        "typeUrl": "istio.io/debug/syncz",
        "versionInfo": f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ}",
    }


def _client_config(proxy: Proxy) -> dict[str, Any]:
    configs = []
    for type_url, resource in sorted(proxy.types.items()):
        config: dict[str, Any] = {"typeUrl": type_url, "configStatus": state_of(resource)}
        if "sentTime" in resource:
            config["lastUpdated"] = resource["sentTime"]
        if resource.get("lastError"):
            config["errorState"] = {"details": resource["lastError"], "lastUpdateAttempt": resource.get("sentTime")}
        configs.append(config)
    metadata = {"CLUSTER_ID": proxy.cluster, "ISTIO_VERSION": proxy.version, "NAMESPACE": proxy.namespace}
    return {
        "@type": f"{_PREFIX}envoy.service.status.v3.ClientConfig",
        "node": {"id": proxy.name, "metadata": metadata},
        "genericXdsConfigs": configs,
    }
