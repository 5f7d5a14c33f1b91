"""istiod's debug pages, from connections that are put together by hand."""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2
from google.protobuf import any_pb2

from pilotfish.xds import debug
from pilotfish.xds.server import Connection
from pilotfish.xds.source import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, ProxyNode, Resource
from pilotfish.xds.status import ProxyState, Rejection, ResourceState, TypeState

AT = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
NODE = ProxyNode("sidecar~10.0.0.1~web-1.shop~x", "sidecar", "10.0.0.1", "web-1", "shop", {"ISTIO_VERSION": "1.30.0"})


@dataclass
class FakeConfig:
    held: Mapping[str, Mapping[str, Resource]]

    def resources(self, type_url: str) -> Mapping[str, Resource]:
        return self.held.get(type_url, {})

    def asked(self, *arguments: Any) -> None: ...

    def answered(self, held: Any) -> None: ...

    def close(self) -> None: ...


def of_type(type_url: str, *names: str, sent: str = "1", acked: str = "1", **more: Any) -> TypeState:
    resources = tuple(ResourceState(name, "1", "1", "ACKED") for name in names)
    rejection = more.get("rejection")
    return TypeState(
        type_url, more.get("wildcard", False), sent, acked, AT if sent else None, AT, 0, resources, rejection
    )


def proxy(*types: TypeState) -> ProxyState:
    return ProxyState(NODE, "ipv4:127.0.0.1:1", AT, {one.type_url: one for one in types})


def test_what_was_sent_and_what_was_acknowledged() -> None:
    refusal = Rejection(LISTENER, ("l",), "no such filter", AT)
    state = proxy(
        of_type(CLUSTER, "a", sent="7", acked="6"),
        of_type(LISTENER, "l", rejection=refusal),
        of_type(ROUTE, sent="", acked=""),
        of_type(ENDPOINT, "e", sent="", acked=""),
    )
    [shown] = debug.sync_status([state])
    assert (shown["proxy"], shown["proxy_type"], shown["cluster_id"]) == ("web-1.shop", "sidecar", "Kubernetes")
    assert (shown["istio_version"], shown["cluster_sent"], shown["cluster_acked"]) == ("1.30.0", "7", "6")
    assert shown["resources"] == {
        CLUSTER: {"sent": "7", "acked": "6", "sentTime": "2026-01-02T03:04:05Z"},
        LISTENER: {"sent": "1", "acked": "1", "sentTime": "2026-01-02T03:04:05Z", "lastError": "no such filter"},
        ROUTE: {},
        ENDPOINT: {"sent": debug.KEPT, "acked": debug.KEPT},
    }


def test_a_dump_has_what_the_proxy_asked_for() -> None:
    clusters = {name: Resource(name, "v1", cluster_pb2.Cluster(name=name).SerializeToString()) for name in "ab"}
    unknown = listener_pb2.Listener(name="l")
    unknown.filter_chains.add().filters.add(name="x").typed_config.CopyFrom(any_pb2.Any(type_url="t/nobody.Knows"))
    listeners = {"l": Resource("l", "v2", unknown.SerializeToString())}
    secret = secret_pb2.Secret(name="s")
    secret.tls_certificate.private_key.inline_string = "the key"
    secret.tls_certificate.certificate_chain.inline_string = "the chain"
    secrets = {"s": Resource("s", "v3", secret.SerializeToString())}
    config = FakeConfig({CLUSTER: clusters, LISTENER: listeners, SECRET: secrets, ROUTE: clusters})
    state = proxy(of_type(CLUSTER, "b"), of_type(LISTENER, wildcard=True), of_type(SECRET, "s"))
    dump = debug.config_dump(debug.resources_of(Connection(state, config)))
    sections = {one["@type"].rpartition(".")[2]: one for one in dump["configs"]}
    assert sections["ClustersConfigDump"]["dynamic_active_clusters"] == [
        {"version_info": "v1", "cluster": {"@type": CLUSTER, "name": "b"}}
    ]
    [listener] = sections["ListenersConfigDump"]["dynamic_listeners"]
    # One of a type that nobody here knows is shown as it is.
    body = listener["active_state"]["listener"]
    assert listener_pb2.Listener.FromString(base64.b64decode(body["value"])) == unknown
    [shown] = sections["SecretsConfigDump"]["dynamic_active_secrets"]
    certificate = shown["secret"]["tls_certificate"]
    assert base64.b64decode(certificate["private_key"]["inline_bytes"]) == b"[redacted]"
    assert certificate["certificate_chain"] == {"inline_string": "the chain"}
    assert sections["RoutesConfigDump"]["dynamic_route_configs"] == []
